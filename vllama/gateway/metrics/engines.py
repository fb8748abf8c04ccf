"""The engines' own families: asked for beside each other, each with a deadline, and passed on as one text."""

import asyncio
from collections.abc import Sequence

from prometheus_client.core import GaugeMetricFamily

from vllama.controller.control import EngineAddress
from vllama.engine.client import EngineClient, EngineRefused, EngineUnanswered
from vllama.engine.families import merged
from vllama.gateway.metrics.exposition import written


async def engines_exposition(engines: Sequence[EngineAddress], client: EngineClient, *, timeout_s: float) -> bytes:
    """An engine that does not answer in time is left out, and `vllama_engine_up` says so."""
    texts = await asyncio.gather(*(_asked(engine, client, timeout_s) for engine in engines))
    return await asyncio.to_thread(written_engines, [engine.model for engine in engines], texts)


async def _asked(engine: EngineAddress, client: EngineClient, timeout_s: float) -> str | None:
    try:
        return await client.metrics(engine.at, timeout_s=timeout_s)
    except (EngineRefused, EngineUnanswered):
        return None


def written_engines(models: Sequence[str], texts: Sequence[str | None]) -> bytes:
    """`texts`: what the engine of each of `models` said; None: nothing in time."""
    up = GaugeMetricFamily("vllama_engine_up", "Engines that told their metrics in time.", labels=["model"])
    for model in dict.fromkeys(models):
        up.add_metric(
            [model], sum(name == model and text is not None for name, text in zip(models, texts, strict=True))
        )
    told = [(model, text) for model, text in zip(models, texts, strict=True) if text is not None]
    return written([up]) + merged(told).encode()
