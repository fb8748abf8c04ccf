"""`vllama simulate` and `vllama trace`, with no server and no GPU."""

import importlib.util
import json
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.golden import matches
from vllama.replay.trace import read_trace

GOLDEN = Path(__file__).parent / "golden"
MODELS = """
policy: {reserve: 0, host_memory: 512GiB}
models:
  org/small: {memory: 8GiB, aliases: [s]}
  org/large: {memory: 20GiB}
  org/other: {memory: 20GiB, idle: {sleep_after: never}}
"""
TRACE = """at_s,model,busy_s
0,org/small,2
60,large,2
120,s,2
180,org/other,5
181,org/large,5
400,org/other,1
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "models.yaml").write_text(MODELS)
    (tmp_path / "day.csv").write_text(TRACE)
    return tmp_path


@pytest.fixture
def simulate(vllama, home):
    return lambda *more: vllama("simulate", home / "day.csv", "-d", "24GiB", "--config-dir", home, *more)


def test_what_people_see(simulate):
    result = simulate("-p", "lru", "-p", "clairvoyant")
    assert (result.exit_code, result.stderr) == (0, "")
    assert matches(GOLDEN / "simulate.txt", result.stdout.rstrip("\n"))


def test_a_narrow_terminal_loses_columns(simulate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    result = simulate("-p", "lru", "-p", "cost")
    tables = result.stdout.split("Not measured")[0].splitlines()
    assert max(map(len, tables)) <= 60
    assert "P50" not in tables[2]
    assert "LONGEST" in tables[2]
    assert "P99 COST" not in "\n".join(tables)


def test_what_programs_see(simulate):
    said = json.loads(simulate("-p", "lru", "-o", "json").stdout)
    assert (said["requests"], said["span_s"], said["devices"]) == (6, 400, [24 << 30])
    assert said["assumed"] == ["org/large", "org/other", "org/small"]
    [lru] = said["policies"]
    assert (lru["policy"], lru["served"], lru["refused"], lru["unserved"]) == ("lru", 6, 0, 0)
    assert lru["waiting_s"] == pytest.approx(sum(model["waiting_s"] for model in lru["models"]), abs=0.01)
    assert lru["swaps"] == lru["starts"] + lru["wakes"] == sum(model["swaps"] for model in lru["models"])
    assert [(model["model"], model["requests"]) for model in lru["models"]] == [
        ("org/large", 2), ("org/other", 2), ("org/small", 2),
    ]  # fmt: skip


def test_both_policies_are_compared_unless_one_is_named(simulate):
    said = json.loads(simulate("-o", "json").stdout)
    assert [each["policy"] for each in said["policies"]] == ["lru", "cost"]


def test_what_was_measured_here_counts(simulate, home):
    from vllama.controller.manifest import load

    specs = load(home / "models.yaml", environ={}).models
    profiles = {
        f"{model} | {spec.spec_hash} | {place}": {
            "load_s": load_s,
            "sleep_s": 1.0,
            "wake_s": 0.5,
            "weights_bytes": 1 << 30,
        }
        for model, spec in specs.items()
        for place, load_s in (("simulated", 1.0), ("vllm 0.32 | H200", 100.0))
    }
    (home / "profiles.json").write_text(json.dumps({"version": 1, "profiles": profiles}))
    said = json.loads(simulate("-p", "lru", "-o", "json").stdout)
    assert said["assumed"] == []
    assert {model["longest_s"] for model in said["policies"][0]["models"]} >= {100.0}
    (home / "profiles.json").write_text("no JSON")
    assert len(json.loads(simulate("-p", "lru", "-o", "json").stdout)["assumed"]) == 3


def test_sizes_and_speeds_can_be_assumed(simulate, home):
    (home / "models.yaml").write_text("policy: {reserve: 0}\n")
    failed = simulate()
    assert failed.exit_code == 1
    assert "not known how large large, org/large, org/other, org/small, s are" in " ".join(failed.stderr.split())
    assert "--assume large=16GiB, or --assume weights=16GiB" in " ".join(failed.stderr.split())
    assumed = (
        "--assume",
        "weights=4GiB",
        "--assume",
        "org/large=8GiB",
        "--assume",
        "start=10s",
        "--assume",
        "read=4GiB/s",
    )
    said = json.loads(simulate(*assumed, "-p", "lru", "-o", "json").stdout)
    waits = {model["model"]: model["longest_s"] for model in said["policies"][0]["models"]}
    assert waits["org/small"] == 10 + 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--assume", "fast"], "not WHAT=SIZE"),
        (["--assume", "weights=lots"], "not an amount of memory"),
        (["--assume", "start=soon"], "not a duration"),
        (["--assume", "weights=0"], "is nothing"),
        (["--assume", "org/none=8GiB"], "nothing asks for org/none"),
        (["--host-memory", "much"], "not an amount of memory"),
        (["--plot", "waiting.gif"], "draws .svg, and .png"),
        (["-p", "best"], "clairvoyant"),
        (["-d", "two"], "not an amount of memory"),
    ],
)
def test_wrong_usage(simulate, more, said):
    result = simulate(*more)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("day.csv", "at_s,model,busy_s\n0,org/small\n", "day.csv:2: 2 columns"),
        ("day.csv", "at_s,model,busy_s\n", "has no requests"),
        ("models.yaml", "models: {org/small: {memory: lots}}\n", "models.yaml:1"),
    ],
)
def test_mistakes_in_files_have_their_line(simulate, home, file, text, said):
    (home / file).write_text(text)
    result = simulate()
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_who_can_never_fit_is_named(simulate, home):
    (home / "models.yaml").write_text(MODELS.replace("org/other: {memory: 20GiB", "org/other: {memory: 100GiB"))
    result = simulate("-p", "lru")
    assert "2 requests refused, as these can never fit: org/other." in result.stdout


def test_a_drawing_has_a_line_per_policy(simulate, home):
    assert simulate("--plot", home / "waiting.svg").exit_code == 0
    root = ET.parse(home / "waiting.svg").getroot()
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    assert len(lines[0].get("points").split()) == 6
    texts = [each.text for each in root.findall("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("lru: ") for text in texts)
    assert any(text.startswith("cost: ") for text in texts)


def test_where_it_cannot_be_drawn(simulate, home):
    result = simulate("--plot", home / "no" / "waiting.svg")
    assert result.exit_code == 1
    assert "Cannot write" in result.stderr
    if importlib.util.find_spec("matplotlib") is None:
        result = simulate("--plot", home / "waiting.png")
        assert result.exit_code == 1
        assert "pip install 'vllama[plot]'" in result.stderr


def test_a_long_trace_is_drawn_with_few_points(vllama, home):
    vllama("trace", "generate", "a", "b", "--rate", "0.5", "--hours", "2", "--to", home / "long.csv")
    drawn = ("--assume", "weights=4GiB", "--plot", home / "a.svg", "--config-dir", home)
    result = vllama("simulate", home / "long.csv", "-d", "24GiB", "-p", "lru", *drawn)
    assert (result.exit_code, result.stderr) == (0, "")
    line = ET.parse(home / "a.svg").getroot().find("{http://www.w3.org/2000/svg}polyline")
    assert 100 < len(line.get("points").split()) <= 601


def test_a_made_up_trace_goes_to_stdout_or_a_file(vllama, home):
    said = vllama("trace", "generate", "a", "b", "--hours", "3", "--seed", "5")
    assert said.stdout.splitlines()[0] == "at_s,model,busy_s"
    result = vllama("trace", "generate", "a", "b", "--hours", "3", "--seed", "5", "--to", home / "made.csv.gz")
    trace = read_trace(home / "made.csv.gz")
    assert f"{len(trace)} requests for 2 models" in result.stdout
    assert len(said.stdout.splitlines()) == len(trace) + 1
    assert vllama("trace", "generate", "a", "--to", home / "no" / "file").exit_code == 1
    assert vllama("trace", "generate", "a", "--busy", "long").exit_code == 2


def test_a_steady_one_and_one_in_turn(vllama):
    steady = vllama("trace", "generate", "a", "b", "--steady", "--zipf", "0", "--rate", "1", "--hours", "1").stdout
    counts = [sum(f",{model}," in line for line in steady.splitlines()) for model in "ab"]
    assert all(1600 < count < 2000 for count in counts)
    turns = vllama(
        "trace", "generate", "a", "b", "c", "--round-robin", "--rate", "0.5", "--hours", "0.01", "--busy", "1s"
    )
    assert turns.stdout.splitlines()[1:5] == ["0,a,1", "2,b,1", "4,c,1", "6,a,1"]


def test_nobody_needs_a_home(vllama, home, monkeypatch):
    """No configuration at all: every model is one that nobody declared."""
    monkeypatch.setitem(os.environ, "HOME", str(home / "nobody"))
    (home / "day.csv").write_text("at_s,model,busy_s\n0,x,1\n")
    result = vllama("simulate", home / "day.csv", "-d", "24GiB", "--assume", "weights=8GiB")
    assert result.exit_code == 0
