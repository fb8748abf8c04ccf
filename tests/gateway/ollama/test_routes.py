"""What vllama answers itself of Ollama's API."""

import json

from tests.gateway.house import MODEL, House, live
from tests.gateway.test_cors import SITE
from tests.gateway.test_keys import ADMIN, MODELS, bearer, keyed
from vllama.gateway.cors import Origins
from vllama.gateway.ollama.routes import VERSION


def test_lists_of_what_there_is_and_what_is_awake():
    async def test(here: House) -> None:
        tags = (await here.http.get("/api/tags")).json()["models"]
        assert [each["name"] for each in tags] == [MODEL, "tiny", "small one"]
        assert (await here.http.get("/api/ps")).json() == {"models": []}
        here.open()
        (awake,) = (await here.http.get("/api/ps")).json()["models"]
        assert (awake["model"], len(awake["digest"])) == (MODEL, 64)
        assert (await here.http.get("/api/version")).json() == {"version": VERSION}
        assert (await here.http.head("/api/tags")).status_code == 200

    live(test)


def test_show_by_either_field_and_whatever_the_content_type():
    async def test(here: House) -> None:
        for body in ({"model": "tiny"}, {"name": f"{MODEL}:latest"}, {"model": MODEL, "verbose": True}):
            answer = await here.http.post("/api/show", content=json.dumps(body), headers={"content-type": "x/y"})
            assert answer.json()["capabilities"] == ["completion"]
        unknown = await here.http.post("/api/show", json={"model": "nope"})
        assert (unknown.status_code, unknown.json()) == (404, {"error": "model 'nope' not found"})
        nothing = await here.http.post("/api/show", content=b"")
        assert (nothing.status_code, list(nothing.json())) == (400, ["error"])

    live(test)


REFUSED = [
    ("POST", "/api/create", 400), ("POST", "/api/copy", 400), ("POST", "/api/push", 400),
    ("DELETE", "/api/delete", 400), ("POST", "/api/blobs/sha256:0", 400), ("HEAD", "/api/blobs/sha256:0", 404),
    ("POST", "/api/nonsense", 404), ("GET", "/api/nonsense", 404), ("GET", "/api/generate/x", 404),
    ("GET", "/api/chat", 405), ("GET", "/api/show", 405), ("GET", "/api/delete", 405),
]  # fmt: skip


def test_what_is_not_done_is_said_in_ollamas_shape():
    async def test(here: House) -> None:
        for method, path, status in REFUSED:
            answer = await here.http.request(method, path, json={"model": "tiny"})
            assert (answer.status_code, path) == (status, path)
            assert method == "HEAD" or list(answer.json()) == ["error"]
            assert status != 400 or "vllama" in answer.json()["error"]

    live(test)


def test_a_pull_is_for_this_machine_only():
    async def test(here: House) -> None:
        for headers in ({"x-forwarded-for": "10.0.0.1"}, {"origin": "http://evil.example"}, {"host": "vllama.lan"}):
            answer = await here.http.post("/api/pull", json={"model": "org/M"}, headers=headers)
            assert (answer.status_code, list(answer.json())) == (403, ["error"])
        here_too = await here.http.post("/api/pull", json={"model": "org/M"})
        assert here_too.json() == {"error": "there is no model cache to pull into"}

    live(test)


def test_keys_open_the_models_and_only_an_admins_one_a_pull():
    async def test(here: House) -> None:
        for method, path in (("POST", "/api/chat"), ("GET", "/api/tags"), ("POST", "/api/show")):
            refused = await here.http.request(method, path, json={"model": "tiny"})
            assert (refused.status_code, list(refused.json())) == (401, ["error"])
            let_in = await here.http.request(method, path, json={"model": "no"}, headers=bearer(MODELS))
            assert let_in.status_code in {200, 404}
        afar = {"x-forwarded-for": "10.0.0.1"}
        for secret, status in ((MODELS, 403), (ADMIN, 400)):
            asked = await here.http.post("/api/pull", json={"model": "org/M"}, headers=bearer(secret) | afar)
            assert (asked.status_code, list(asked.json())) == (status, ["error"])

    live(test, guard=keyed())


def test_a_page_that_may_read_answers_may_read_these_too():
    async def test(here: House) -> None:
        here.open()
        for body in ({"model": "tiny"}, {"model": "nope"}):
            answer = await here.http.post("/api/generate", json=body, headers={"origin": SITE})
            assert answer.headers["access-control-allow-origin"] == SITE

    live(test, origins=Origins([SITE]))


def test_a_name_that_no_hub_has():
    async def test(here: House) -> None:
        for name in ("", "a/b/c", "../x", "a b", "registry.ollama.ai/library/x:8b", "org/..", "x:8b"):
            answer = await here.http.post("/api/pull", json={"model": name})
            assert answer.status_code == 400
            assert "no name of the Hugging Face hub" in answer.json()["error"]

    live(test)
