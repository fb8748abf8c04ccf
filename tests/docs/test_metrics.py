"""docs/metrics.md says what the code tells at /metrics."""

import re

from prometheus_client.parser import text_string_to_metric_families

from tests.docs.metrics import labels, page
from tests.docs.pages import ROOT
from tests.gateway.metrics.everything import everything
from vllama.gateway.metrics.exposition import exposition


def test_the_page_is_this_one() -> None:
    committed = (ROOT / "docs" / "metrics.md").read_text()
    assert committed == page(), "write it anew: python -m tests.docs.metrics > docs/metrics.md"


def test_every_family_is_on_the_page_with_all_that_it_has() -> None:
    """A family without samples would show no labels."""
    lines = page().splitlines()
    for family in text_string_to_metric_families(exposition(everything()).decode()):
        assert family.samples, family.name
        assert len(family.documentation) > 5, family.name
        (line,) = (line for line in lines if line.startswith((f"| `{family.name}` ", f"| `{family.name}_total` ")))
        assert family.documentation in line


def test_every_label_is_explained() -> None:
    said = {each for names in labels() for each in names.split(", ")}
    used = {
        label
        for family in text_string_to_metric_families(exposition(everything()).decode())
        for sample in family.samples
        for label in sample.labels
    }
    assert used - {"le", "version"} == said


def test_names_are_as_prometheus_has_them() -> None:
    """A unit last, in its base; counters end in _total, and nothing else does."""
    for family in text_string_to_metric_families(exposition(everything()).decode()):
        assert re.fullmatch(r"(vllama|process)(_[a-z]+)+", family.name)
        assert not re.search(r"_(ms|milliseconds|kb|mb|gib|percent|count|sum|total)$", family.name), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
