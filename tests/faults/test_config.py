"""models.yaml while people, editors and Kubernetes do to it what they do."""

import asyncio
import copy
import json
import signal
from collections.abc import Callable

from tests.faults.clients import Kind
from tests.faults.house import BASE, VICTIM
from tests.faults.rows import row
from tests.faults.scene import ENDED, Scene
from tests.faults.test_clients import told
from tests.waiting import async_wait_until
from vllama.domain.units import MIB

GOOD = json.dumps(BASE)


async def _spoilt(scene: Scene, spoil: Callable[[], object], *, cut: bool = False) -> None:
    """The file is bad: it is said, the last good one stays in force, and a good one is taken again, all by itself."""
    file = scene.house.config_dir / "models.yaml"

    def lift() -> None:
        file.unlink(missing_ok=True)
        file.write_text(GOOD)

    async with scene.trouble(lift):
        await scene.moment()
        spoil()
        await _until_valid(scene, valid=False)
        await asyncio.gather(*scene.ask_many(3))
    await _until_valid(scene, valid=True)


async def _until_valid(scene: Scene, *, valid: bool) -> None:
    async def so() -> bool:
        return (await scene.conditions())["ManifestValid"] is valid

    await async_wait_until(so, deadline_s=60, what=f"models.yaml to be {'valid' if valid else 'refused'}")


@row(35)
async def test_a_file_that_is_half_written_or_wrong_leaves_the_last_good_one_in_force(scene: Scene):
    file = scene.house.config_dir / "models.yaml"
    bad = [
        GOOD[: scene.dice.randint(len(GOOD) // 2, len(GOOD) - 1)],
        GOOD.replace('"memory": "2GiB"', '"memroy": "2GiB"', 1),
        f"models: {{{VICTIM}: {{memory: 1GiB}}, {VICTIM}: {{memory: 2GiB}}}}",
        f"models: {{{VICTIM}: {{memory: much}}}}",
        "models: [\x00\x01\x02",
    ]
    for text in scene.dice.sample(bad, 3):
        await _spoilt(scene, lambda text=text: file.write_text(text))


@row(35)
async def test_a_file_that_is_empty_or_gone_leaves_the_last_good_one_in_force(scene: Scene):
    file = scene.house.config_dir / "models.yaml"
    for spoil in scene.dice.sample([lambda: file.write_text(""), file.unlink], 2):
        await _spoilt(scene, spoil)


@row(35)
async def test_a_file_that_is_renamed_over_or_a_swapped_link_is_seen(scene: Scene):
    """As editors do, and as Kubernetes does with a ConfigMap: only `..data` changes, two steps away."""
    directory, file = scene.house.config_dir, scene.house.config_dir / "models.yaml"

    def put(name: str, alias: str) -> None:
        config = copy.deepcopy(BASE)
        config["models"][VICTIM]["aliases"] = [alias]
        (directory / name).mkdir(exist_ok=True)
        (directory / name / "models.yaml").write_text(json.dumps(config))
        (directory / "..data.fresh").unlink(missing_ok=True)
        (directory / "..data.fresh").symlink_to(name)
        (directory / "..data.fresh").rename(directory / "..data")

    def lift() -> None:
        fresh = directory / "models.yaml.fresh"
        fresh.write_text(GOOD)
        fresh.rename(file)

    async def called(alias: str) -> bool:
        return alias in (await scene.status())["aliases"]

    async with scene.trouble(lift):
        put("..data_1", "first")
        (directory / "models.yaml.link").symlink_to("..data/models.yaml")
        (directory / "models.yaml.link").rename(file)
        await async_wait_until(lambda: called("first"), deadline_s=60, what="the link to be followed")
        await scene.moment()
        put("..data_2", "second")
        await async_wait_until(lambda: called("second"), deadline_s=60, what="the swap to be seen")
        assert (await scene.answer("second", served_name=VICTIM)).kind is Kind.WHOLE
    await async_wait_until(lambda: _has_no_alias(scene), deadline_s=60, what="the new file to be seen")


async def _has_no_alias(scene: Scene) -> bool:
    return (await scene.status())["aliases"] == []


@row(36)
async def test_a_model_with_open_streams_that_leaves_the_file_ends_them_first(scene: Scene):
    await scene.answer()
    streams = [scene.ask(stream=True, tokens=scene.dice.randint(50, 150)) for _ in range(5)]
    await scene.moment(0.3)
    config = copy.deepcopy(BASE)
    del config["models"][VICTIM]
    async with scene.trouble():
        await scene.apply(config)
        late = await scene.told()
        assert (late.status, late.code) == (404, "model_not_found")
        await asyncio.gather(*streams)


@row(37)
async def test_ten_reloads_a_second_restart_nobody(scene: Scene):
    await scene.answer()
    pid = (await scene.status())["pid"]
    config = copy.deepcopy(BASE)
    async with scene.trouble():
        clients = []
        for number in range(30):
            config["models"][VICTIM].update(aliases=[f"name-{number}"], priority=number % 3)
            await asyncio.to_thread(scene.house.write, config)
            if scene.dice.random() < 0.5:
                scene.house.up.process.send_signal(signal.SIGHUP)
            else:
                clients.append(asyncio.create_task(scene.post("/admin/reload")))
            clients.append(scene.ask(tokens=10, stream=bool(number % 2)))
            await scene.moment(0.2)
        await asyncio.gather(*clients)

        async def is_last() -> bool:
            return (await scene.status())["aliases"] == ["name-29"]

        await async_wait_until(is_last, deadline_s=60, what="the last one to be in force")
        assert (await scene.status())["pid"] == pid


@row(38)
async def test_a_file_that_is_a_bomb_is_refused_at_little_cost(scene: Scene):
    file, memory = scene.house.config_dir / "models.yaml", scene.house.memory_bytes()
    laughs = "\n".join(
        f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" if n else "l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"
        for n in range(12)
    )
    bombs = [laughs, f"models: {{{VICTIM}: {{aliases: [" + "x" * 10_000_000 + "]}}", "[" * 100_000]
    for text in scene.dice.sample(bombs, 2):
        await _spoilt(scene, lambda text=text: file.write_text(text))
    assert scene.house.memory_bytes() < memory + 200 * MIB


@row(48)
async def test_flags_that_are_vllamas_own_are_refused_and_a_shells_are_none(scene: Scene):
    """And nobody can set any through the API."""
    await scene.stop()
    file, mark = scene.house.config_dir / "models.yaml", scene.house.root / "home" / "executed"
    owned = scene.dice.choice(("host", "port", "enable-sleep-mode", "served-model-name", "api-key", "uds"))
    config = copy.deepcopy(BASE)
    config["models"][VICTIM]["extra_args"] = {owned: "1"}
    await _spoilt(scene, lambda: file.write_text(json.dumps(config)))
    shell = f"$(touch {mark}); touch {mark} | `touch {mark}`"
    async with scene.trouble():
        await scene.configure(VICTIM, extra_args={"revision-note": shell, "enable-log-requests": True})
        body = {"extra_args": {"host": "0.0.0.0"}, "env": {"LD_PRELOAD": "/x"}, "vllm": "/bin/false"}
        refused = await scene.post(f"/admin/models/{VICTIM}/sleep", json=body)
        assert refused.status_code in {400, 422}
        await scene.post(f"/admin/models/{VICTIM}/start", json=body)
        await scene.until_it_is("Ready")
        leader = (await scene.status())["pid"]
        argv, _ = await asyncio.to_thread(told, leader)
        assert shell in argv
        assert "0.0.0.0" not in argv
        assert not mark.exists()
        await asyncio.gather(*scene.ask_many(2, may=ENDED))
