import pytest

from vllama.gateway.paths import INFERENCE_PATHS, Way, is_management, way

TRICKS = [
    b"//v1/chat/completions",
    b"/v1//chat/completions",
    b"/v1/chat/completions/",
    b"/V1/chat/completions",
    b"/v1/chat%2fcompletions",
    b"/v1/chat/%63ompletions",
    b"/v1/chat/completions/../../../sleep",
    b"/v1/%2e%2e/sleep",
    b"/v1/chat/completions%3f",
    b"/v1/chat/completions;x",
    b"/v1/chat/completions%00",
    b"v1/chat/completions",
    b"http://localhost/v1/chat/completions",
    b"",
]
MANAGEMENT = [
    b"/sleep",
    b"/wake_up",
    b"/collective_rpc",
    b"/pause",
    b"/v1/load_lora_adapter",
    b"/metrics",
    b"/is_sleeping",
]


@pytest.mark.parametrize("path", INFERENCE_PATHS)
def test_inference_paths_go_to_an_engine_by_post_only(path: bytes) -> None:
    assert way("POST", path) is Way.ENGINE
    assert {way(method, path) for method in ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "post")} == {Way.WRONG_METHOD}


@pytest.mark.parametrize("path", TRICKS + MANAGEMENT + [b"/v1/models", b"/", b"/health", b"/admin/status"])
def test_nothing_else_does(path: bytes) -> None:
    assert way("POST", path) is Way.OURS


@pytest.mark.parametrize("path", [*MANAGEMENT, b"//sleep", b"/SLEEP", b"/%73leep", b"/sleep/", b"/v1/%2e%2e/sleep"])
def test_management_is_known_however_it_is_spelled(path: bytes) -> None:
    assert is_management(path)


@pytest.mark.parametrize("path", [b"/", b"/sleeping", b"/v1/nothing", b"/admin/models/a/sleep", b"%", b"\xff"])
def test_other_paths_are_not_management(path: bytes) -> None:
    assert not is_management(path)
