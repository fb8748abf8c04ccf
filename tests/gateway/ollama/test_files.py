"""What the models' files tell is read when they may be others, and not for each who asks."""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gateway.house import House, ListedControl, live
from vllama.domain.spec import LaunchSpec, ModelSpec
from vllama.domain.status import Phase
from vllama.gateway.ollama.files import Files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / "mine"
    found.mkdir()
    say(found, "old")
    return found


def say(directory: Path, family: str) -> None:
    """At a time of its own, whatever the clock's ticks are."""
    config = directory / "config.json"
    config.write_text(json.dumps({"model_type": family}))
    os.utime(config, (1.7e9, 1.7e9 + len(family)))


def spec_of(directory: Path) -> ModelSpec:
    return ModelSpec(model="mine", launch=LaunchSpec(path=str(directory)))


def test_lists_do_not_look_at_the_files_again_until_the_catalog_is_another(directory: Path) -> None:
    async def test(here: House) -> None:
        async def families() -> set[str]:
            tags = (await here.http.get("/api/tags")).json()["models"]
            (loaded,) = (await here.http.get("/api/ps")).json()["models"]
            shown = (await here.http.post("/api/show", json={"model": "mine"})).json()
            return {each["details"]["family"] for each in (*tags, loaded, shown)}

        here.control.phase = Phase.READY
        assert await families() == {"old"}
        say(directory, "newer")
        assert await families() == {"old"}
        here.control.looked += 1
        assert await families() == {"newer"}

    live(test, spec_of(directory))


def test_what_did_not_change_is_not_read_again_when_the_catalog_did(directory: Path) -> None:
    async def test() -> None:
        spec = spec_of(directory)
        control = ListedControl(specs=[spec])
        files = Files(control, None)
        (first,) = await files.about([spec])
        control.looked += 1
        (again,) = await files.about([spec])
        assert again is first
        say(directory, "newer")
        control.looked += 1
        (other,) = await files.about([spec])
        assert (first.family, other.family) == ("old", "newer")

    asyncio.run(test())


def test_other_settings_are_told_at_once(directory: Path) -> None:
    async def test() -> None:
        spec = spec_of(directory)
        files = Files(ListedControl(specs=[spec]), None)
        await files.about([spec])
        shorter = replace(spec, launch=replace(spec.launch, settings=(("max_model_len", 7),)))
        (told,) = await files.about([shorter])
        assert told.max_model_len == 7

    asyncio.run(test())


def test_many_at_once_have_it_read_once_and_models_that_go_are_forgotten(directory: Path) -> None:
    async def test() -> None:
        spec, other = spec_of(directory), ModelSpec(model="org/other")
        control = ListedControl(specs=[spec, other])
        files = Files(control, None)
        told = await asyncio.gather(*(files.about([spec, other]) for _ in range(5)))
        assert {id(each) for each, _ in told} == {id(told[0][0])}
        control.specs.remove(other)
        control.looked += 1
        await files.about([spec])
        assert files._kept.keys() == {"mine"}

    asyncio.run(test())
