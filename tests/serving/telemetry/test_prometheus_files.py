"""The alert rules and the Grafana dashboard name what the cascade exports."""

import re

import pytest
from prometheus import DEPLOY, alerts, expressions, panels, used_names

from cascade.serving.telemetry.metrics import METRICS, exported_name

EXPORTED = {exported_name(metric): metric for metric in METRICS}
RAYS_LABELS = {"application", "deployment", "replica"}
QUERIES = [query for queries in expressions() for query in queries]


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_and_label_is_exported(query):
    names = used_names(query)
    assert names
    assert names <= EXPORTED.keys()
    matchers = re.findall(r"(ray_[a-z_]+)\{([^}]*)\}", query)
    for name, inside in matchers:
        assert set(re.findall(r"([a-z_]+)\s*(?:=|!)", inside)) <= RAYS_LABELS | set(EXPORTED[name].tags)
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(",")}
    assert grouped <= RAYS_LABELS.union(*(EXPORTED[name].tags for name in names))


def test_every_metric_but_parts_of_histograms_is_in_a_panel_or_an_alert():
    used = set().union(*map(used_names, QUERIES))
    rest = EXPORTED.keys() - used
    assert {name for name in rest if not re.search(r"_(sum|count|bucket)_total$", name)} <= {
        "ray_cascade_audit_rows_total",
        "ray_cascade_audit_dropped_rows_total",
    }


def test_every_alert_has_a_description_and_is_in_the_guide():
    guide = (DEPLOY.parent / "docs/operate.md").read_text()
    for alert in alerts():
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"].keys() == {"summary", "description"}
        assert f"`{alert['alert']}`" in guide


def test_every_metric_is_in_the_guide():
    guide = (DEPLOY.parent / "docs/operate.md").read_text()
    stems = {re.sub(r"_(bucket|sum|count)_total$", "", name) for name in EXPORTED}
    assert {name for name in stems if f"`{name}" not in guide} == set()


def test_panels_do_not_overlap_and_fit_the_grid():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not taken & cells
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())
