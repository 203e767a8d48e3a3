"use strict";

const PERIOD_MS = 1000;
const LATE_MS = 5000;
const at = (id) => document.getElementById(id);
let key = "";  // kept in memory only, until the page is closed

// Elements; texts are never parsed as markup.

function element(name, attributes = {}, ...children) {
  const created = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) created.setAttribute(attribute, value);
  created.append(...children);
  return created;
}

function svgElement(name, attributes = {}, text = null) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) created.setAttribute(attribute, value);
  if (text !== null) created.textContent = text;
  return created;
}

function newSvg(width, height, description) {
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description });
  svg.append(svgElement("title", {}, description));
  return svg;
}

const colour = (stage, stages) =>
  `var(--stage-${stages > 1 ? Math.round(1 + (6 * stage) / (stages - 1)) : 4})`;

// Number formats.

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

const count = (value) => value.toLocaleString("en");
const rows = (value) => `${count(value)} ${value === 1 ? "row" : "rows"}`;
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.01 ? 2 : 1)} %`;
const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${seconds < 600 ? number(Math.round(seconds / 30) / 2) : Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

// Parts of the page.

function tiles(data) {
  const { summary, series } = data;
  const lately = (name) => {
    const last = series[name].slice(-5);
    return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
  };
  const refused = summary.refused.reduce((sum, each) => sum + each.requests, 0);
  const shown = [
    ["requests", number(lately("requests_per_s")), "/s"],
    ["rows", number(lately("rows_per_s")), "/s"],
    ["median latency", number(summary.p50_ms), "ms"],
    ["p95 latency", number(summary.p95_ms), "ms"],
    ["p99 latency", number(summary.p99_ms), "ms"],
    ["cost per row", number(summary.mean_cost), data.policy.cost_unit],
    ["failed requests", count(refused), ""],
    ["degraded rows", count(summary.degraded_rows), ""],
    ...(data.policy.abstains ? [["abstained rows", count(summary.abstained_rows), ""]] : []),
    ["rows waiting", count(data.queue_rows + data.forwarding_rows), ""],
  ];
  at("tiles").replaceChildren(...shown.map(([name, value, unit]) =>
    element("div", {}, element("span", {}, name), element("b", {}, value, " ", element("small", {}, unit)))));
}

// All rows enter at the top; answered rows turn right, deferred rows continue down.
function flow(data) {
  const answered = data.summary.answered_rows;
  const total = answered.reduce((sum, value) => sum + value, 0);
  const width = 440, left = 6, trunk = 130, node = 7, bend = 14, text = 210;
  const thick = (value) => (value ? Math.max((trunk * value) / total, 1.5) : 0);
  const heights = answered.map((value) => Math.max(node + bend + thick(value) + 30, 78));
  const height = 24 + heights.reduce((sum, value) => sum + value, 0);
  const names = data.policy.stages.map((stage) => stage.name);
  const label = names.map((name, stage) => `${name} ${count(answered[stage])}`).join(", ");
  const svg = newSvg(width, height, `Rows answered by stage: ${label}`);
  svg.append(svgElement("text", { x: left, y: 14, class: "small" }, `${rows(total)} in`));
  let top = 24, reached = total;
  answered.forEach((value, stage) => {
    const came = thick(reached), turned = thick(value), rest = reached - value, on = thick(rest);
    if (on) {
      svg.append(svgElement("rect", { x: left, y: top, width: on, height: heights[stage], fill: "var(--trunk)" }));
      svg.append(svgElement("text", { x: left + on + 8, y: top + heights[stage] - 8, class: "small" },
        `${count(rest)} deferred, ${percent(rest / total)}`));
    }
    if (turned) {
      const right = left + came, from = right - turned, y = top + node, centre = right + bend;
      const path = `M${from} ${top} H${right} V${y} A${bend} ${bend} 0 0 0 ${centre} ${y + bend} H${text - 12} ` +
        `V${y + bend + turned} H${centre} A${bend + turned} ${bend + turned} 0 0 1 ${from} ${y} Z`;
      svg.append(svgElement("path", { d: path, fill: colour(stage, answered.length) }));
    }
    svg.append(svgElement("rect", { x: left - 3, y: top, width: Math.max(came, 2) + 6, height: node, rx: 3,
      fill: reached ? "var(--ink)" : "var(--trunk)" }));
    const middle = top + node + bend + turned / 2;
    svg.append(svgElement("text", { x: text, y: middle - 4, class: "bold" }, shortened(names[stage], 30)));
    svg.append(svgElement("text", { x: text, y: middle + 13, class: reached ? "" : "small" },
      reached ? `answers ${rows(value)}, ${percent(value / total)}` : "not reached"));
    top += heights[stage];
    reached = rest;
  });
  at("flow").replaceChildren(total ? svg : element("p", { class: "fact" }, "No rows in the last minutes."));
  at("window").textContent = duration(data.summary.seconds);
}

// Lines over the last minutes. Each is {values, name, stroke}; values of null are gaps.
function chart(place, ago, lines, description, { logarithmic }) {
  const known = lines.flatMap((line) => line.values.filter((value) => value !== null && (!logarithmic || value > 0)));
  const width = 520, height = 170, left = 54, right = 46, bottom = 20, top = 8;
  const span = Math.max(60, ...ago);
  const scale = logarithmic ? logScale(known) : linearScale(known);
  const x = (seconds) => width - right - ((width - left - right) * seconds) / span;
  const y = (value) => height - bottom - (height - bottom - top) * scale.share(value);
  const svg = newSvg(width, height, description);
  for (const tick of scale.ticks) {
    svg.append(svgElement("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "rule" }));
    svg.append(svgElement("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end", class: "small" }, number(tick)));
  }
  for (const [seconds, anchor] of [[span, "start"], [span / 2, "middle"], [0, "end"]]) {
    const label = seconds ? `${duration(seconds)} ago` : "now";
    svg.append(svgElement("text", { x: x(seconds), y: height - 4, "text-anchor": anchor, class: "small" }, label));
  }
  let lowest = Infinity;
  for (const line of lines) {
    let path = "", pen = "M", last = null;
    line.values.forEach((value, i) => {
      if (value === null) { pen = "M"; return; }
      path += `${pen}${x(ago[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      if (pen === "M") path += "h.1";
      [pen, last] = ["L", value];
    });
    svg.append(svgElement("path", { d: path, class: "line", stroke: line.stroke }));
    if (line.name && last !== null) {
      lowest = Math.min(y(last) + 4, lowest - 14);
      const label = svgElement("text", { x: width - right + 6, y: lowest }, line.name);
      label.style.fill = line.stroke;
      svg.append(label);
    }
  }
  at(place).replaceChildren(svg);
}

function linearScale(values) {
  const most = Math.max(1, ...values);
  const step = [1, 2, 2.5, 5, 10].map((each) => each * 10 ** Math.floor(Math.log10(most / 2)))
    .find((each) => each * 3 >= most);
  const ticks = [0, 1, 2, 3].map((each) => each * step);
  return { ticks, share: (value) => value / ticks[3] };
}

function logScale(values) {
  const from = values.length ? Math.floor(Math.log10(Math.min(...values))) : 0;
  const to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(1e-9, ...values))));
  const ticks = Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));
  return { ticks, share: (value) => (Math.log10(Math.max(value, 10 ** from)) - from) / (to - from) };
}

function charts(data) {
  const { series } = data;
  chart("rate", series.ago_s, [{ values: series.rows_per_s, name: "", stroke: "var(--stage-4)" }],
    "Rows answered per second, over the last minutes", { logarithmic: false });
  chart("latency", series.ago_s, [
    { values: series.p50_ms, name: "50 %", stroke: "var(--stage-2)" },
    { values: series.p95_ms, name: "95 %", stroke: "var(--stage-6)" },
    { values: series.p99_ms, name: "99 %", stroke: "var(--accent)" },
  ], "Median, 95th and 99th percentile of the latency of requests", { logarithmic: true });
}

function table(heads, lines) {
  const cell = (name) => (value, column) => element(name, column ? { class: "number" } : {}, value);
  return element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map(cell("th")))),
    element("tbody", {}, ...lines.map((line) => element("tr", {}, ...line.map(cell("td"))))));
}

function fact(...parts) {
  return element("p", { class: "fact" }, ...parts.map((part, i) => (i % 2 ? element("b", {}, part) : part)));
}

function policy(data) {
  const { version, stages, cost_unit: unit, certificate } = data.policy;
  const parts = [fact("Policy ", version, certificate.guarantee ? `, ${certificate.guarantee}` : "")];
  if (certificate.target) {
    const target = Object.entries(certificate.target).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`);
    const delta = certificate.delta === undefined ? "" : `, with probability ${percent(1 - certificate.delta)}`;
    parts.push(fact("Guaranteed: ", target.join(", "), delta));
  }
  if (data.gear !== null && data.gear !== undefined) parts.push(fact("Gear ", String(data.gear), "; 0 is the most accurate"));
  const reloads = Object.entries(data.reloads ?? {}).map(([outcome, n]) => `${n} ${outcome}`).join(", ");
  if (reloads) parts.push(fact("Reloads: ", reloads));
  const threshold = (value) => (value === null ? "all" : value > 1 ? "never" : `≥ ${number(value, 4)}`);
  const lines = stages.map((stage) => [stage.name, threshold(stage.threshold), `${number(stage.cost)} ${unit}`]);
  parts.push(table(["stage", "accepts at confidence", "cost per row"], lines));
  at("policy").replaceChildren(...parts);
}

// Where the expected agreement comes from; only a certificate's is guaranteed.
const SOURCES = { guarantee: "guaranteed", operator: "configured", calibration: "calibration data: at least" };

function audit(data) {
  const seen = data.audit;
  if (!seen) {
    at("audit").replaceChildren(fact("No rows have been audited yet."));
    return;
  }
  const width = 440, height = 58, bottom = Math.max(0, Math.min(seen.low, seen.least ?? 1) - 0.02);
  const x = (share) => 8 + ((width - 16) * (share - bottom)) / (1 - bottom);
  const svg = newSvg(width, height, `Agreement ${percent(seen.agreement)}, from ${percent(seen.low)} to ${percent(seen.high)}`);
  svg.append(svgElement("line", { x1: x(bottom), x2: x(1), y1: 16, y2: 16, class: "rule" }));
  svg.append(svgElement("rect", { x: x(seen.low), y: 11, width: Math.max(x(seen.high) - x(seen.low), 2), height: 10, rx: 5, fill: "var(--stage-2)" }));
  svg.append(svgElement("circle", { cx: x(seen.agreement), cy: 16, r: 6, fill: "var(--ink)" }));
  if (seen.least !== null) {
    svg.append(svgElement("line", { x1: x(seen.least), x2: x(seen.least), y1: 2, y2: 30, stroke: "var(--accent)", "stroke-width": 2 }));
    svg.append(svgElement("text", { x: x(seen.least), y: 46, "text-anchor": "middle", class: "small" }, `${SOURCES[seen.source] ?? "least"} ${percent(seen.least)}`));
  }
  at("audit").replaceChildren(
    fact("Agreement with the last stage: ", percent(seen.agreement), ` of ${rows(seen.rows)}, in [${percent(seen.low)}, ${percent(seen.high)}].`), svg);
}

function refused(data) {
  const list = data.summary.refused;
  at("refused").replaceChildren(list.length
    ? table(["error", "status", "requests"], list.map((each) => [each.reason, each.status, count(each.requests)]))
    : fact(`None in the last ${duration(data.summary.seconds)}.`));
}

function alarms(data) {
  const raised = Object.entries(data.alarms).filter(([, is]) => is).map(([name]) => name);
  const shown = [...at("alarms").children].map((item) => item.textContent);
  const wanted = raised.map((name) => `Alarm: ${name.replaceAll("_", " ")}`);
  // Not replaced while nothing changes, so that a screen reader reads it once.
  if (shown.join() !== wanted.join()) at("alarms").replaceChildren(...wanted.map((text) => element("li", {}, text)));
}

function show(data) {
  const { rank, of, replica } = data.gateway;
  at("name").textContent = data.name;
  document.title = `${data.name} – cascade`;
  const which = of > 1 ? `gateway ${rank + 1} of ${of} (${replica}); these are its numbers only` : "one gateway";
  setState(data.metrics ? `live, up ${duration(data.uptime_s)}, ${which}` : which);
  at("main").hidden = false;
  for (const part of ["now", "flow", "rate", "latency", "audit"]) {
    at(part).closest("section").hidden = !data.metrics;
  }
  policy(data);
  if (!data.metrics) {
    note("Traffic is not counted, since the configuration has serving.metrics: false.");
    return;
  }
  const quiet = data.summary.requests === 0;
  note(quiet ? "No rows have been answered in the last minutes. Send a request to see its numbers:" : "",
    quiet ? `curl ${location.origin}/predict -H 'content-type: application/json' -d '{"rows": [ ... ]}'` : "");
  tiles(data);
  flow(data);
  charts(data);
  audit(data);
  refused(data);
  alarms(data);
}

// Fetching.

function setState(text, lost = false) {
  const state = at("state");
  if (state.textContent !== text) state.textContent = text;
  state.classList.toggle("lost", lost);
  at("main").classList.toggle("stale", lost);
}

function note(text, code = "") {
  const wanted = text + code;
  if (at("note").textContent === wanted) return;
  at("note").replaceChildren(text, ...(code ? [element("code", {}, code)] : []));
  at("note").hidden = !text;
}

function askForKey(error) {
  at("key-form").hidden = false;
  at("main").hidden = true;
  at("key-error").textContent = error;
  setState("a key is required", true);
}

async function fetchData() {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const response = await fetch("dashboard/data", { headers, cache: "no-store", signal: AbortSignal.timeout(LATE_MS) });
  if (response.status === 401 || response.status === 403) {
    askForKey(key ? "This key is not valid here." : "");
    key = "";
    return false;
  }
  if (!response.ok) throw new Error(`status ${response.status}`);
  const data = await response.json();
  at("key-form").hidden = true;
  show(data);
  return true;
}

async function poll() {
  let again = true;
  try {
    if (!document.hidden) again = await fetchData();
  } catch (error) {
    setState("the gateway does not answer; trying again", true);
    if (!(error instanceof TypeError) && error.name !== "TimeoutError") console.error(error);
  }
  if (again) setTimeout(poll, PERIOD_MS);
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  at("key").value = "";
  poll();
});
poll();
