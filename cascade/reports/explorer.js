"use strict";
// Shows one point of the frontier at a time: the one that reaches a target, the one under the pointer, or the one that
// the slider stands on. All that it shows is read from the tables of points, which can be read without it as well.
(() => {
  const ROUNDING = 1e-6;
  const byId = (id) => document.getElementById(id);
  const [explorer, kindField, targetField, unit, place, readout] =
    ["explorer", "kind", "target", "target-unit", "place", "readout"].map(byId);
  const goal = byId("goal");
  const picture = document.querySelector("#frontier svg");

  const numbers = (text) => text.split(" ").map(Number);
  const texts = (cells) => [...cells].map((cell) => cell.textContent);
  const stages = texts(document.querySelectorAll("#stages tbody th"));
  const kinds = [...document.querySelectorAll("table.points")].map((table) => ({
    goal: table.dataset.goal,
    unit: table.dataset.unit,
    rises: table.dataset.rises === "yes",
    header: texts(table.tHead.rows[0].cells),
    points: [...table.tBodies[0].rows].map(({ cells, dataset }) => ({
      cells: texts(cells),
      place: numbers(dataset.place),
      value: Number(dataset.value),
      gain: Number(dataset.gain),
      cost: Number(dataset.cost),
      share: numbers(dataset.share),
    })),
  }));
  let kind = kinds[0];

  // The cheapest point that reaches a target; of those within a cost, the one that gains most.
  function reaching(target) {
    const reaches = ({ value }) => (kind.rises ? value >= target - ROUNDING : value <= target + ROUNDING);
    const better = kind.unit === "%" ? (a, b) => a.cost < b.cost : (a, b) => a.gain > b.gain;
    return kind.points.filter(reaches).reduce((best, point) => (best && !better(point, best) ? best : point), null);
  }

  function nearest(x, y) {
    const distance = ({ place: [left, top] }) => Math.hypot(left - x, top - y);
    return kind.points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
  }

  function made(name, text = "", className = "") {
    const element = document.createElement(name);
    element.textContent = text;
    element.className = className;
    return element;
  }

  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("r", "9");
  ring.setAttribute("class", "ring");
  picture.append(ring);

  function stageRow(point, k) {
    const row = document.createElement("tr");
    const last = k === stages.length - 1;
    const bar = made("span", "", "bar");
    bar.style.width = `${100 * point.share[k]}%`;
    const track = made("td", "", "track");
    track.append(bar);
    row.append(made("th", stages[k]), made("td", last ? "everything" : point.cells[2 + k]));
    row.append(made("td", point.cells[1 + stages.length + k]), track);
    return row;
  }

  function show(point) {
    const summary = `${point.cells[0]} ${kind.header[0]} at ${point.cells[1]} ${explorer.dataset.costUnit} a row`;
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    head.append(...["stage", "answers from", "share of rows", ""].map((text) => made("th", text)));
    table.createTBody().append(...stages.map((_, k) => stageRow(point, k)));
    readout.replaceChildren(made("p", summary, "fact"), table);
    const promised = 1 + 2 * stages.length;
    if (point.cells.length > promised) {
      readout.append(made("p", `${kind.header[promised]} ${point.cells[promised]}`, "note"));
    }
    ring.setAttribute("cx", point.place[0]);
    ring.setAttribute("cy", point.place[1]);
    place.value = kind.points.indexOf(point);
    place.setAttribute("aria-valuetext", summary);
  }

  function showReaching() {
    const target = targetField.valueAsNumber;
    if (Number.isNaN(target)) return;
    const point = reaching(target);
    if (point) show(point);
    else readout.replaceChildren(made("p", "No point reaches this target.", "fact"));
  }

  function choose(point) {
    targetField.value = Number(point.value.toPrecision(5));
    show(point);
  }

  function chooseKind() {
    kind = kinds[kindField.selectedIndex];
    goal.textContent = kind.goal;
    unit.textContent = kind.unit;
    place.max = kind.points.length - 1;
    choose(nearest(...numbers(explorer.dataset.start)));
  }

  kindField.addEventListener("change", chooseKind);
  targetField.addEventListener("input", showReaching);
  place.addEventListener("input", () => choose(kind.points[Number(place.value)]));
  for (const name of ["pointermove", "pointerdown"]) {
    picture.addEventListener(name, (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
      choose(nearest(at.x, at.y));
    });
  }
  explorer.hidden = false;
  chooseKind();
})();
