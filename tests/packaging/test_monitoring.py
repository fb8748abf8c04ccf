"""manifests/grafana and manifests/prometheus: of one piece, and about metrics that there are."""

import itertools
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.metrics.everything import everything
from tests.packaging.files import ROOT
from tests.packaging.promql import (
    ALERTS,
    SCRAPE,
    alerts,
    dashboard,
    expressions,
    filled_in,
    is_balanced,
    labels_of,
    metrics_of,
    panels,
)
from vllama.cli.app import app
from vllama.gateway.metrics.engines import written_engines
from vllama.gateway.metrics.exposition import exposition

FROM_PROMETHEUS = {"instance", "job", "le"}


@cache
def labels_by_sample():
    text = exposition(everything()).decode() + written_engines(["org/A"], [""]).decode()
    found = {"up": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("where", "expression"), [pytest.param(*each, id=each[0]) for each in expressions()])
def test_every_expression_is_balanced_and_names_what_there_is(where, expression):
    assert is_balanced(expression)
    named = metrics_of(expression)
    known = labels_by_sample()
    assert named
    assert named - known.keys() == set(), where
    assert labels_of(expression) - FROM_PROMETHEUS - set().union(*(known[name] for name in named)) == set()


def test_what_is_not_balanced_is_seen_and_what_does_not_exist():
    assert not is_balanced("sum(rate(a[5m])")
    assert not is_balanced('sum(rate(a{b="c}[5m]))')
    assert not is_balanced("a[5m)]")
    assert is_balanced('a{b="(["}')
    assert metrics_of('rate(vllama_x_total{a="vllama_y"}[5m]) / up') == {"vllama_x_total", "up"}
    assert labels_of('sum by (a, b) (x{c="d", e!~"f"}) == 1') == {"a", "b", "c", "e"}


def test_the_dashboard_can_be_imported():
    board = dashboard()
    every = board["panels"]
    assert board["id"] is None
    assert len({panel["id"] for panel in every}) == len(every)
    names = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "model"} <= names
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)), panel["title"]
    used = set(re.findall(r"\$\{?([a-z]+)", str(board))) - {"model"}
    assert used | {"model"} <= names | {"__rate_interval", "__range"}
    assert [panel["title"] for panel in every if panel["type"] == "row"] == [
        "Overview", "Models", "Waiting", "Swaps and evictions", "Memory of $node", "Requests and errors",
        "Servers that others run", "The manager itself",
    ]  # fmt: skip


def test_devices_of_one_number_on_several_machines_are_not_added_up():
    """A row for each machine: every panel that tells of what a machine has tells of one."""
    [row] = [panel for panel in dashboard()["panels"] if panel.get("repeat") == "node"]
    assert row["type"] == "row"
    of_machines = {name for name, labels in labels_by_sample().items() if "node" in labels}
    told = [each["expr"] for panel in panels() for each in panel["targets"]]
    found = [re.findall(r"(\w+)\{([^}]*)\}", expression) for expression in told]
    chosen = [labels for each in found for name, labels in each if name in of_machines]
    assert len(chosen) >= 10
    assert [labels for labels in chosen if 'node="$node"' not in labels] == []


def test_no_panel_lies_on_another():
    spots = [(panel["title"], panel["gridPos"]) for panel in dashboard()["panels"]]
    assert all(spot["x"] >= 0 and spot["x"] + spot["w"] <= 24 for _, spot in spots)
    for (one, a), (other, b) in itertools.combinations(spots, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (one, other)


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    assert len({alert["alert"] for alert in alerts()}) == len(alerts()) > 10
    for alert in alerts():
        assert re.fullmatch(r"\d+m", alert["for"]), alert
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert len(alert["annotations"]["summary"]) < 140
        assert len(alert["annotations"]["description"]) > 100


def test_alerts_name_commands_that_there_are():
    commands = typer.main.get_command(app).commands
    text = ALERTS.read_text()
    named = set(re.findall(r"`vllama\s+([a-z-]+)", text))
    assert named
    assert named - commands.keys() == set()


def test_every_condition_has_an_alert_that_speaks_of_it():
    sources = "".join(path.read_text() for path in (ROOT / "vllama").rglob("*.py"))
    types = set(re.findall(r'Condition\(type="(\w+)"', sources)) - {"TakesRequests"}  # that is vllama_ready
    assert len(types) > 10
    text = ALERTS.read_text()
    assert {each for each in types if not re.search(rf"\b{each}\b", text)} == set()
    named = set(re.findall(r'type(?:=|=~|!~)"([A-Za-z|]+)"', text))
    assert {each for names in named for each in names.split("|")} <= types


def test_the_guide_has_every_alert():
    page = (ROOT / "docs" / "guides" / "operations.md").read_text()
    assert set(re.findall(r"\bVllama[A-Z][A-Za-z]+", page)) == {alert["alert"] for alert in alerts()}


def test_the_jobs_are_those_that_alerts_look_at():
    jobs = {job["job_name"]: job for job in yaml.safe_load(SCRAPE.read_text())["scrape_configs"]}
    used = {name for _, each in expressions() for name in re.findall(r'job="([^"]+)"', each)}
    assert used <= jobs.keys()
    assert jobs["vllama-engines"]["metrics_path"] == "/metrics/engines"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_prometheus_takes_them(tmp_path):
    rules = [{"record": f"r{i}", "expr": filled_in(each)} for i, (_, each) in enumerate(expressions())]
    queries = tmp_path / "queries.yml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    comes = Path(__file__).with_name("alerts.test.yml")
    checks = (
        ["check", "rules", ALERTS],
        ["check", "config", SCRAPE],
        ["check", "rules", queries],
        ["test", "rules", comes],
    )
    for check in checks:
        ended = subprocess.run(["promtool", *map(str, check)], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    said = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition(everything()), capture_output=True, check=False
    )  # fmt: skip
    assert (said.returncode, said.stdout) == (0, b""), said.stdout + said.stderr
