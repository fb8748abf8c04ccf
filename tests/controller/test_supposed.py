from dataclasses import replace

from vllama.controller.supposed import Supposed
from vllama.domain.spec import LaunchSpec, ModelSpec

LAUNCH = LaunchSpec(path="/a", env=(("X", "1"),), settings=(("dtype", "half"), ("seed", 1)))
OLD = ModelSpec(model="a", memory_bytes=1, launch=LAUNCH)
SAME = Supposed(model="a", new_engine=False, settings=(("dtype", "half"),), memory_bytes=1, sleep_after_s=1800.0)


def test_what_needs_no_new_engine_has_the_same_one() -> None:
    spec = replace(SAME, priority=3, pin=True).over(OLD)
    assert (spec.spec_hash, spec.priority, spec.pin) == (OLD.spec_hash, 3, True)


def test_what_planning_does_not_ask_for_still_makes_another_engine() -> None:
    spec = replace(SAME, new_engine=True).over(OLD)
    assert spec.spec_hash != OLD.spec_hash
    assert (spec.launch.path, spec.launch.env) == ("/a", OLD.launch.env)


def test_only_settings_that_say_its_size_are_taken() -> None:
    said = (("dtype", "float"), ("revision", "../../etc"), ("trust_remote_code", True))
    spec = replace(SAME, new_engine=True, settings=said).over(OLD)
    assert dict(spec.launch.settings) == {"dtype": "float", "seed": 1}
