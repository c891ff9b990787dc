"""The alert rules and the dashboard against the metrics that a run really tells, by Prometheus' own tool."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.extras import program
from tests.pipelines.test_metrics import at_work

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"

NOT_OURS = {"up"}
"""What Prometheus itself tells of every target."""

GRAFANA = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
"""What the dashboard's variables stand for."""


def alerts() -> list[dict[str, Any]]:
    """Return the rules."""
    told = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    return [rule for group in told["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return dict(json.loads((MONITORING / "grafana-dashboard.json").read_text()))


def panels() -> list[dict[str, Any]]:
    """Return the panels that ask Prometheus something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def asked() -> Iterator[str]:
    """Yield all expressions of the dashboard, with values for its variables."""
    variables = dashboard()["templating"]["list"]
    queries = [each["query"]["query"] for each in variables if each["type"] == "query"]
    told = [re.sub(r"label_values\((.*), \w+\)", r"\1", query) for query in queries]
    for expression in told + [target["expr"] for panel in panels() for target in panel["targets"]]:
        for variable, value in GRAFANA.items():
            expression = expression.replace(variable, value)
        yield expression


def metrics_in(expression: str) -> set[str]:
    """Return the names of metrics in PromQL.

    >>> sorted(metrics_in('sum by (le) (rate(x_bucket{job="y"}[5m])) > 0 and on (z) up'))
    ['up', 'x_bucket']
    """
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)', " ", expression)
    return {name for name in re.findall(r"\b[a-zA-Z_:]\w*\b(?!\s*\()", bare) if name not in ("and", "or", "unless")}


def promtool(*arguments: str, given: bytes = b"", folder: Path = MONITORING) -> str:
    """Run Prometheus' own tool; fail with what it says where it finds a mistake."""
    done = subprocess.run([program("promtool"), *arguments], input=given, capture_output=True, cwd=folder, timeout=60)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told


@pytest.fixture(name="told")
def _told(tmp_path: Path) -> bytes:
    """What a run tells to which everything has happened."""
    return at_work(tmp_path).text()


@pytest.fixture(name="named")
def _named(told: bytes) -> set[str]:
    """The names of all samples of that run."""
    lines = told.decode().splitlines()
    return {re.split(r"[ {]", line)[0] for line in lines if line and not line.startswith("#")}


def test_the_metrics_are_named_as_prometheus_wants(told: bytes) -> None:
    """Its linter finds nothing: units, suffixes, help texts."""
    assert promtool("check", "metrics", given=told).strip() == ""


def test_the_rules_are_whole() -> None:
    """Prometheus can load them."""
    assert f"{len(alerts())} rules found" in promtool("check", "rules", "alerts.yaml")


def test_alerts_are_heard_when_they_must_and_only_then() -> None:
    """Real rules on made series."""
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yaml")


def test_every_alert_is_tested_loud_and_quiet() -> None:
    """No alert is without a series that sets it off, nor missing where a run keeps up."""
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    checks = [check for test in tests for check in test.get("alert_rule_test", [])]
    asked_for = [check for test in tests for check in test.get("promql_expr_test", [])]
    loud = {check["alertname"] for check in checks if check.get("exp_alerts")}
    loud |= {
        name for check in asked_for if check.get("exp_samples") for name in re.findall("Labelstream\\w+", check["expr"])
    }
    quiet = {check["alertname"] for check in tests[0]["alert_rule_test"] if not check.get("exp_alerts")}
    assert loud == quiet == {rule["alert"] for rule in alerts()}


def test_every_alert_says_what_to_do() -> None:
    """What is wrong and where in one line, then what to do; how urgent it is."""
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert "labelstream {{ $labels.instance }}" in rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 80


def test_rules_and_dashboard_name_only_what_a_run_tells(named: set[str]) -> None:
    """A metric that is called otherwise would be an alert that is never heard."""
    wanted = {name for rule in alerts() for name in metrics_in(rule["expr"])}
    wanted |= {name for expression in asked() for name in metrics_in(expression)}
    assert wanted - named - NOT_OURS == set()


def test_the_dashboard_shows_all_that_a_run_tells(named: set[str]) -> None:
    """Whatever is measured can be looked at."""
    shown = {name for expression in asked() for name in metrics_in(expression)}
    families = {_family(name) for name in named if name.startswith("labelstream_")}
    assert families - {_family(name) for name in shown} == set()


def _family(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_every_expression_of_the_dashboard_can_be_asked(tmp_path: Path) -> None:
    """Prometheus' own parser reads them."""
    rules = [{"record": f"dashboard:{at}", "expr": expression} for at, expression in enumerate(asked())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    told = promtool("check", "rules", "rules.yaml", folder=tmp_path)
    assert len(rules) > 20 and f"{len(rules)} rules found" in told


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """No id of somebody's Grafana in it: every panel and variable asks the data source that is chosen at the top."""
    told = dashboard()
    assert told["schemaVersion"] >= 36 and told.get("id") is None and told["title"]
    source, *others = told["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asking = [*others, *panels(), *(target for panel in panels() for target in panel["targets"])]
    assert all(each["datasource"] == chosen for each in asking)
    assert all(panel["title"] and panel["description"] for panel in panels())
    known = {f"${each['name']}" for each in others} | {"$__rate_interval"}
    used = {name for panel in panels() for target in panel["targets"] for name in re.findall(r"\$\w+", target["expr"])}
    assert used == known


def test_panels_have_places_of_their_own() -> None:
    """Ids are unique, and no panel lies on another or beside the page."""
    every = dashboard()["panels"]
    assert max(Counter(panel["id"] for panel in every).values()) == 1
    for one, other in combinations([panel["gridPos"] for panel in every], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in every)
