"""Which tool a simulated model calls, and with what."""

import json

import pytest

from vllama.simulator.answers.tools import _example

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}, "days": {"type": ["integer", "null"]}},
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (WEATHER, {"city": "text", "unit": "c", "days": 1}),
        (
            {"type": "object", "properties": {"all": {"type": "boolean"}, "of": {"type": "array"}}},
            {"all": True, "of": []},
        ),
        (
            {"properties": {"in": WEATHER, "kind": {"const": 7}}},
            {"in": {"city": "text", "unit": "c", "days": 1}, "kind": 7},
        ),
        ({}, {}),
        (None, {}),
    ],
)
def test_arguments_that_the_schema_allows(schema, value):
    assert _example(schema) == value
    json.dumps(value)
