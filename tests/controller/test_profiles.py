"""What was measured is kept, and never more than a cache."""

import json
from pathlib import Path

from vllama.controller.events import Events
from vllama.controller.profiles import Profiles
from vllama.domain.observed import Footprint
from vllama.domain.replicas import expanded
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import GIB
from vllama.engine.canary import Answer
from vllama.runtime.base import EngineProcess

SPEC = ModelSpec(model="org/a", memory_bytes=4 * GIB)
ESTIMATE = Footprint(awake_bytes=4 * GIB, asleep_bytes=GIB, weights_bytes=2 * GIB)


def build(path, *, place="vllm 1 | gpu"):
    events = Events()
    profiles = Profiles(path, place=place, events=events)
    profiles.load()
    return profiles, events


def test_what_was_measured_takes_the_place_of_the_estimate_and_survives(tmp_path):
    path = tmp_path / "profiles.json"
    first, _ = build(path)
    assert first.of(SPEC).over(ESTIMATE) == ESTIMATE
    first.note(SPEC, asleep_bytes=300, wake_s=0.5)
    first.note(SPEC, asleep_bytes=400)
    first.refuse(SPEC, SleepLevel.DISCARDED, "it answered otherwise")
    first.save()
    again, _ = build(path)
    assert again.of(SPEC).why_refused == {2: "it answered otherwise"}
    learned = again.of(SPEC).over(ESTIMATE)
    assert (learned.asleep_bytes, learned.wake_s, learned.weights_bytes) == (400, 0.5, 2 * GIB)
    assert learned.refused_levels == {SleepLevel.DISCARDED}


def test_it_holds_for_the_same_settings_on_the_same_place_only(tmp_path):
    path = tmp_path / "profiles.json"
    first, _ = build(path)
    first.note(SPEC, asleep_bytes=300)
    first.save()
    assert first.of(ModelSpec(model="org/a", memory_bytes=5 * GIB)).asleep_bytes is None
    other, _ = build(path, place="vllm 2 | gpu")
    assert other.of(SPEC).asleep_bytes is None


def test_a_file_that_cannot_be_understood_is_set_aside_with_a_warning(tmp_path):
    path = tmp_path / "profiles.json"
    for content in (
        "{",
        "[]",
        json.dumps({"version": 99, "profiles": {}}),
        '{"version": 1, "profiles": {"x": {"y": 1}}}',
    ):
        path.write_text(content)
        profiles, events = build(path)
        assert [event.reason for event in events] == ["ProfilesUnreadable"]
        assert (tmp_path / "profiles.json.unreadable").read_text() == content
        profiles.note(SPEC, asleep_bytes=1)
        profiles.save()
        assert build(path)[0].of(SPEC).asleep_bytes == 1


def test_a_disk_that_refuses_costs_only_knowledge(tmp_path):
    profiles, events = build(tmp_path / "absent" / "profiles.json")
    profiles.note(SPEC, asleep_bytes=1)
    profiles.save()
    assert [event.reason for event in events] == ["ProfilesNotSaved"]
    assert profiles.of(SPEC).asleep_bytes == 1


def test_a_canary_is_kept_for_the_engine_that_gave_it_and_for_no_other(tmp_path):
    path = tmp_path / "profiles.json"
    first, _ = build(path)
    answer = Answer(numbers=(0.25, -1.0))
    first.keep_canary(SPEC, "e1", answer)
    first.save()
    again, _ = build(path)
    assert again.canary_of(engine("e1")) == answer
    assert again.canary_of(engine("e2")) is None
    assert again.canary_of(engine("e1", spec_hash="other")) is None


def engine(engine_id, *, spec_hash=SPEC.spec_hash):
    return EngineProcess(
        engine_id=engine_id, model=SPEC.model, spec_hash=spec_hash, node="local", devices=(0,), memory_bytes=1, pid=1,
        port=1, started_at=0.0, log=Path("log"),
    )  # fmt: skip


def test_replicas_share_what_was_measured_and_each_has_its_own_canary(tmp_path):
    profiles, _ = build(tmp_path / "profiles.json")
    first, second = expanded([ModelSpec(model="org/a", replicas=2)]).values()
    profiles.note(second, wake_s=0.5)
    assert profiles.of(first).wake_s == 0.5
    for number, spec in enumerate((first, second, second)):
        profiles.keep_canary(spec, f"e{number}", Answer(text=str(number), numbers=()))

    def kept(engine_id):
        return profiles.canary_of(EngineProcess(
            engine_id=engine_id, model="org/a", spec_hash=first.spec_hash, node="here", devices=(0,), memory_bytes=1,
            pid=1, port=1, started_at=0.0, log=Path("log"),
        ))  # fmt: skip

    assert [kept(f"e{number}") and kept(f"e{number}").text for number in range(3)] == [None, "1", "2"]
