"""The dashboard and the alerts of manifests/, and what their expressions name. No parser: enough to find a slip."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.packaging.files import ROOT

DASHBOARD = ROOT / "manifests" / "grafana" / "vllama.json"
ALERTS = ROOT / "manifests" / "prometheus" / "alerts.yml"
SCRAPE = ROOT / "manifests" / "prometheus" / "scrape.yml"
_CLOSES = {")": "(", "]": "[", "}": "{"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, the expression), of all panels, variables and alerts."""
    for panel in panels():
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"].removeprefix("label_values(").rpartition(",")[0]
    yield from ((alert["alert"], alert["expr"]) for alert in alerts())


def metrics_of(expression: str) -> set[str]:
    """Names of samples, with their `_bucket`, `_count` and `_total`."""
    return set(re.findall(r"\b(?:vllama|process|vllm)_[a-z0-9_]+|\bup\b", _STRING.sub('""', expression)))


def labels_of(expression: str) -> set[str]:
    """Those that are chosen by, and those that are grouped by."""
    found = set(re.findall(r"([a-zA-Z_]+)\s*(?:=~|!~|!=|=(?!=))\s*\"", expression))
    for names in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression):
        found |= {name.strip() for name in names.split(",")}
    return found


def is_balanced(expression: str) -> bool:
    bare = _STRING.sub("", expression)
    open_: list[str] = []
    for letter in bare:
        if letter in _CLOSES.values():
            open_.append(letter)
        elif letter in _CLOSES and (not open_ or open_.pop() != _CLOSES[letter]):
            return False
    return not open_ and '"' not in bare


def filled_in(expression: str) -> str:
    """As Grafana sends it, with everything chosen."""
    for name, value in {"$__rate_interval": "1m", "$__range": "6h", "$instance": ".*", "$model": ".*"}.items():
        expression = expression.replace(name, value)
    return expression.replace("$device", "0").replace("$node", "local")
