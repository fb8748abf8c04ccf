"""YAML text -> plain data, and where every key and value stands."""

import pytest

from vllama.controller.manifest.marks import Place, parse


def data(text, **environ):
    document = parse(text.encode(), file="f", environ=environ)
    assert not document.problems
    return document.data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30m", "30m"),
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("2024-01-01", "2024-01-01"),
        ("0123", "0123"),
        ("0x1F", "0x1F"),
        ("1_000", 1000),
        ("-5", -5),
        ("0", 0),
        ("9" * 30, "9" * 30),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1.2.3", "1.2.3"),
        ("yes", True),
        ("Off", False),
        ("TRUE", True),
        ("y", "y"),
        ("~", None),
        ("null", None),
        ("", None),
        ("'null'", "null"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("=", "="),
    ],
)
def test_plain_words(text, value):
    read = data(f"k: {text}\n")["k"]
    assert read == value
    assert type(read) is type(value)


def test_keys_are_always_words():
    assert data("on: 1\n12: 2\n1.5: 3\nnull: 4\n") == {"on": 1, "12": 2, "1.5": 3, "null": 4}


def test_nothing():
    assert data("") is None
    assert data("# only a comment\n") is None
    assert data("\ufeffa: 1\n") == {"a": 1}


def test_anchors_and_merge_keys():
    text = """
    small: &small {pin: true, priority: 1}
    large: &large {priority: 2, port: 3}
    a: {<<: *small, priority: 5}
    b: {<<: [*small, *large]}
    c: *small
    """
    read = data(text)
    assert read["a"] == {"pin": True, "priority": 5}
    assert read["b"] == {"pin": True, "priority": 1, "port": 3}
    assert read["c"] == read["small"]


def test_places():
    text = "a:\n  b: 1\n  c:\n    - x\n    - y\n  d: >\n    text\n"
    document = parse(text.encode(), file="f", environ={})
    assert document.places["a",] == Place(key_line=1, value_line=2)
    assert document.places["a", "b"] == Place(key_line=2, value_line=2)
    assert document.places["a", "c", 1] == Place(key_line=5, value_line=5)
    assert document.line_of(("a", "d")) == 6
    assert document.line_of(("a", "c", 7, "z")) == 3
    assert document.line_of(("z",)) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "one"),
        ("x${A}y${A}", "xoneyone"),
        ("${NONE:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("$A $ {A} $$", "$A $ {A} $$"),
        ("$${A}", "${A}"),
    ],
)
def test_references(text, value):
    assert data(f"k: {text}\n", A="one", EMPTY="")["k"] == value


def test_references_stay_text_and_are_not_read_again():
    assert data("k: ${N}\nl: ${R}\n", N="12", R="${N}") == {"k": "12", "l": "${N}"}


def test_all_missing_references_are_found():
    document = parse(b"a: ${X}\nb: ['${Y}', 1]\n", file="f", environ={})
    assert [(problem.line, problem.path) for problem in document.problems] == [(1, ("a",)), (2, ("b", 0))]
    assert document.data == {"a": None, "b": [None, 1]}
