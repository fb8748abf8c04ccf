from pathlib import Path

import pytest

from tests.cli.golden import matches
from vllama.cli.render.stock import render_stock
from vllama.cli.stock import Stocked
from vllama.domain.units import GIB
from vllama.engine.cache import CachedModel
from vllama.engine.kinds import Task

GOLDEN = Path(__file__).parent / "golden"


def on_disk(size: float, *, missing: tuple[str, ...] = (), note: str = "") -> CachedModel:
    return CachedModel(
        model="x", directory=Path("/x"), complete=not missing, missing=missing, size_bytes=int(size * GIB),
        task=Task.CHAT, note=note,
    )  # fmt: skip


SHARDS = tuple(f"model-{number:05}-of-00030.safetensors" for number in range(2, 31))
MODELS = (
    Stocked(model="BAAI/bge-reranker-v2-m3", task=Task.RERANK, declared=False, on_disk=on_disk(2.1), phase="Stopped"),
    Stocked(model="Qwen/Qwen3-8B", task=Task.CHAT, declared=True, on_disk=on_disk(15.3), phase="Ready"),
    Stocked(
        model="Qwen/Qwen3-Embedding-0.6B", task=Task.EMBEDDING, declared=True, on_disk=on_disk(1.1), phase="Asleep (L1)"
    ),
    Stocked(model="me/my-adapter", task=Task.CHAT, declared=False, on_disk=on_disk(0.1, note="a LoRA adapter: use it")),
    Stocked(
        model="meta-llama/Llama-3.3-70B-Instruct", task=Task.CHAT, declared=False, on_disk=on_disk(4.6, missing=SHARDS)
    ),
    Stocked(model="org/declared-and-not-here", task=Task.CHAT, declared=True, phase="Stopped"),
    Stocked(model="org/somewhere-else", task=Task.CHAT, declared=False, phase="Stopped"),
)


@pytest.mark.parametrize("width", [56, 80, 120, None])
def test_the_list_reads_as_its_golden_file(width: int | None) -> None:
    text = render_stock(MODELS, hub="/data/hub", free_bytes=120 * GIB, width=width)
    assert matches(GOLDEN / f"list_{width or 'unlimited'}.txt", text.plain)
    assert width is None or all(len(line) <= width for line in text.plain.splitlines())
    assert {str(span.style) for span in text.spans} >= {"bold", "green", "blue", "yellow", "dim"}


def test_a_disk_whose_room_is_not_known_and_a_cache_that_is_empty() -> None:
    assert ", 0 B on disk" not in render_stock((), hub="/h", free_bytes=None).plain
    assert render_stock(MODELS[:1], hub="/h", free_bytes=None).plain.endswith("the model cache is /h.")
