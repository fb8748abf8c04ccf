import pytest

from tests.gateway.house import MODEL, House, live
from vllama.domain.spec import ModelSpec
from vllama.domain.status import ModelStatus, Phase
from vllama.gateway.models import model_list


def test_each_alias_is_an_entry_whose_root_is_the_model() -> None:
    status = ModelStatus(
        model="org/a", phase=Phase.ASLEEP, reason="Sleeping", message="", declared=True, aliases=("a", "b")
    )
    listed = model_list([status], created=5)
    entry = {"object": "model", "created": 5, "owned_by": "vllama", "root": "org/a", "parent": None, "status": "Asleep"}
    assert listed == {"object": "list", "data": [{"id": name, **entry} for name in ("org/a", "a", "b")]}


def test_each_adapter_is_an_entry_whose_parent_is_the_model() -> None:
    status = ModelStatus(
        model="org/a", phase=Phase.READY, reason="Idle", message="", declared=True, aliases=("a",), adapters=("sql",)
    )
    listed = model_list([status], created=5)["data"]
    assert [(one["id"], one["root"], one["parent"]) for one in listed] == [
        ("org/a", "org/a", None), ("a", "org/a", None), ("sql", "sql", "org/a"),
    ]  # fmt: skip


def test_an_adapter_can_be_looked_up() -> None:
    async def test(here: House) -> None:
        one = (await here.http.get("/v1/models/sql")).json()
        assert (one["id"], one["parent"]) == ("sql", MODEL)

    live(test, ModelSpec(model=MODEL, lora=(("sql", "/s"),)))


def test_the_list_is_ours_and_asks_no_engine() -> None:
    async def test(here: House) -> None:
        before = (await here.http.get("/v1/models")).json()
        here.open()
        after = (await here.http.get("/v1/models?x=1")).json()
        assert [(one["id"], one["root"]) for one in after["data"]] == [(n, MODEL) for n in (MODEL, "tiny", "small one")]
        assert ({one["status"] for one in before["data"]}, {one["status"] for one in after["data"]}) == (
            {"Stopped"},
            {"Ready"},
        )
        assert here.upstream.exchanges == []

    live(test)


@pytest.mark.parametrize("name", [MODEL, "tiny", "small%20one", MODEL.replace("/", "%2F")])
def test_one_model_by_any_of_its_names(name: str) -> None:
    async def test(here: House) -> None:
        one = (await here.http.get(f"/v1/models/{name}")).json()
        assert (one["object"], one["root"]) == ("model", MODEL)
        assert (await here.http.get("/v1/models/nope")).json()["error"]["code"] == "model_not_found"

    live(test)
