from dataclasses import replace
from pathlib import Path

from vllama.runtime.base import EngineProcess

ENGINE = EngineProcess(
    engine_id="e", model="m", spec_hash="h", node="local", devices=(0,), memory_bytes=1, pid=1, port=8001,
    started_at=0.0, log=Path("log"),
)  # fmt: skip


def test_an_engine_answers_on_loopback_without_a_key() -> None:
    assert (ENGINE.base_url, ENGINE.address.control, ENGINE.address.key) == (
        "http://127.0.0.1:8001", "http://127.0.0.1:8001", None,
    )  # fmt: skip
    assert not ENGINE.is_far


def test_an_engine_of_another_host_says_where() -> None:
    far = replace(ENGINE, host="10.0.0.2", key="s3cret", control_url="agent://b/e")
    assert (far.address.base_url, far.address.control) == ("http://10.0.0.2:8001", "agent://b/e")
    assert far.is_far
    assert replace(far, host="fd00::2").base_url == "http://[fd00::2]:8001"
    assert "s3cret" not in repr(far)
