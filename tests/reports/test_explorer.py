"""The page's script, in a browser if one is installed."""

import re
import shutil
import subprocess

import pytest

from cascade.calibration import calibrate
from cascade.reports import Replay, certified_frontier, report_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ACTIONS = """
<script>
const seen = [];
const note = () => seen.push(document.querySelector("#readout .fact").textContent);
const change = (id, key, value, name) => {
  const field = document.getElementById(id);
  field[key] = value;
  field.dispatchEvent(new Event(name));
  note();
};
note();
change("place", "value", 0, "input");
change("target", "value", TARGET, "input");
change("target", "value", 101, "input");
change("kind", "selectedIndex", 1, "change");
const box = document.querySelector("#frontier svg").getBoundingClientRect();
const at = { clientX: box.right - 1, clientY: box.top + 1 };
document.querySelector("#frontier svg").dispatchEvent(new PointerEvent("pointermove", at));
note();
document.title = seen.join("|") + "|" + document.querySelector("#readout th:first-child + td").textContent;
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_target_gives_the_cheapest_point_that_reaches_it(make_table, tmp_path):
    table = make_table(2000, 2, seed=1)
    policy = calibrate(table, target_accuracy=0.85)
    replay = Replay.of(table, policy)
    certified = certified_frontier(make_table(2000, 2, seed=2), policy, table)
    target = 100 * replay.frontier[len(replay.frontier) // 2].gain - 0.01
    page = report_page(replay, certified=certified) + ACTIONS.replace("TARGET", str(target))
    (tmp_path / "page.html").write_text(page)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    first, cheapest, reaching, none, chosen, pointed, _ = re.search(r"<title>(.*?)</title>", done.stdout)[1].split("|")
    expected = min((p for p in replay.frontier if 100 * p.gain >= target), key=lambda p: p.cost)
    assert reaching.startswith(f"{100 * expected.gain:.2f} % accuracy at ")
    assert cheapest.startswith(f"{100 * replay.frontier[0].gain:.2f} % accuracy at ")
    assert none == "No point reaches this target."
    assert abs(float(first.split()[0]) / 100 - replay.chosen_gain) < 0.01
    gains = [f"{100 * point.gain:.2f}" for point in certified.points]
    assert chosen.split()[0] in gains
    assert pointed.split()[0] == gains[-1]
