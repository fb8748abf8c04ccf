import pytest

from vllama.gateway.paths import (
    INFERENCE_PATHS,
    Need,
    Way,
    is_admin,
    is_management,
    method_of,
    need,
    response_id,
    way,
)

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
    b"/v1/responses/",
    b"/v1/responses/..",
    b"/v1/responses/../../sleep",
    b"/v1/responses/%2e%2e",
    b"/v1/responses/a/cancel/",
    b"/v1/responses/a/input_items",
    b"/v1/responses//cancel",
    b"/v1/responses/" + b"a" * 201,
    b"/v1/realtime/",
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


@pytest.mark.parametrize("path", [b"/v1/responses/resp_0af", b"/v1/responses/cancel", b"/v1/responses/My-own.1"])
def test_a_response_is_asked_for_and_cancelled(path: bytes) -> None:
    assert (way("GET", path), way("POST", path)) == (Way.RESPONSE, Way.WRONG_METHOD)
    assert (way("POST", path + b"/cancel"), way("GET", path + b"/cancel")) == (Way.RESPONSE, Way.WRONG_METHOD)
    assert response_id(path) == response_id(path + b"/cancel") == path.removeprefix(b"/v1/responses/").decode()
    assert (method_of(path), method_of(path + b"/cancel")) == ("GET", "POST")


def test_realtime_is_a_get() -> None:
    assert (way("GET", b"/v1/realtime"), way("POST", b"/v1/realtime")) == (Way.REALTIME, Way.WRONG_METHOD)


@pytest.mark.parametrize("path", TRICKS + MANAGEMENT + [b"/v1/models", b"/", b"/health", b"/admin/status"])
def test_nothing_else_does(path: bytes) -> None:
    assert way("POST", path) is Way.OURS


@pytest.mark.parametrize("path", [*MANAGEMENT, b"//sleep", b"/SLEEP", b"/%73leep", b"/sleep/", b"/v1/%2e%2e/sleep"])
def test_management_is_known_however_it_is_spelled(path: bytes) -> None:
    assert is_management(path)


@pytest.mark.parametrize("path", [b"/", b"/sleeping", b"/v1/nothing", b"/admin/models/a/sleep", b"%", b"\xff"])
def test_other_paths_are_not_management(path: bytes) -> None:
    assert not is_management(path)


@pytest.mark.parametrize("path", [*INFERENCE_PATHS, *TRICKS, *MANAGEMENT, b"/v1/models", b"/docs", b"/api/tags"])
def test_all_but_the_few_that_say_how_it_is_needs_a_key(path: bytes) -> None:
    assert need(path) is Need.MODELS


@pytest.mark.parametrize(
    "path", [b"//", b"/livez/", b"/Livez", b"/%6civez", b"/health/x", b"/%61dmin/status", b"/adminx"]
)
def test_what_is_spelled_otherwise_needs_a_key_too(path: bytes) -> None:
    assert need(path) is Need.MODELS


def test_the_few() -> None:
    assert {need(path) for path in (b"/", b"/livez", b"/readyz", b"/health")} == {Need.NOTHING}
    assert {need(path) for path in (b"/admin", b"/admin/", b"/admin/../x")} == {Need.ADMIN}
    assert is_admin("/admin/status")
    assert not is_admin("/administration")
