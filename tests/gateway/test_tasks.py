"""A model that lacks a task says so, and says what it has; one of which nothing is known is asked."""

import pytest

from tests.gateway.house import MODEL, House, live
from tests.gateway.test_forms import END, field
from vllama.engine.tasks import CLASSIFIES, COMPARES, EMBEDS, GENERATES, LISTENS, POOLS, TRANSCRIBES
from vllama.gateway.paths import ROUTES

FORM = {"content-type": "multipart/form-data; boundary=xyz"}
ALL = GENERATES | EMBEDS | CLASSIFIES | COMPARES | POOLS | TRANSCRIBES | LISTENS
EVERYBODYS = {"/tokenize", "/detokenize", "/invocations", "/v1/systemone"}
GENERATING = (
    "/v1/chat/completions /v1/chat/completions/batch /v1/completions /v1/responses /v1/messages "
    "/v1/messages/count_tokens /generative_scoring"
)


async def statuses(here: House) -> dict[str, int]:
    found = {}
    for path, route in ROUTES.items():
        content = field(b"model", b"tiny") + END if route.form else b'{"model":"tiny"}'
        answer = await here.http.post(path.decode(), content=content, headers=FORM if route.form else {})
        found[path.decode()] = answer.status_code
    return found


@pytest.mark.parametrize(
    ("tasks", "paths"),
    [
        ({"generate"}, GENERATING),
        ({"token_embed", "embed"}, "/v1/embeddings /v2/embed /rerank /v1/rerank /v2/rerank /score /v1/score /pooling"),
        ({"token_classify", "classify"}, "/classify /rerank /v1/rerank /v2/rerank /score /v1/score /pooling"),
        ({"transcription"}, "/v1/audio/transcriptions /v1/audio/translations"),
        ({"plugin"}, "/pooling"),
    ],
)
def test_each_task_has_its_paths_and_nobody_is_woken_for_another(tasks: set[str], paths: str) -> None:
    async def test(here: House) -> None:
        here.open()
        here.control.known_tasks[MODEL] = frozenset(tasks)
        found = await statuses(here)
        assert {path for path, status in found.items() if status == 200} == {*paths.split(), *EVERYBODYS}
        assert set(found.values()) == {200, 400}
        assert len(here.upstream.exchanges) == list(found.values()).count(200)

    live(test)


def test_a_model_of_which_nothing_is_known_is_asked() -> None:
    async def test(here: House) -> None:
        here.open()
        assert set((await statuses(here)).values()) == {200}

    live(test)


def test_the_refusal_names_the_tasks_and_starts_no_engine() -> None:
    async def test(here: House) -> None:
        here.control.known_tasks[MODEL] = frozenset({"token_embed", "embed"})
        error = (await here.chat({"model": "tiny"})).json()["error"]
        assert error["message"] == (
            "'tiny' has no /v1/chat/completions: that takes a model with the task generate, "
            "and the tasks of this one are: embed, token_embed."
        )
        assert (error["code"], error["param"], error["type"]) == (
            "task_not_supported", "model", "invalid_request_error",
        )  # fmt: skip
        answer = await here.http.post("/v1/messages", json={"model": "tiny"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert here.control.board.demand() == {}

    live(test)
