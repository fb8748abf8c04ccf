"""GET /metrics: the families a manager reads, in Prometheus' text format."""

from collections.abc import Mapping

from vllama.simulator.server_state import ServerState
from vllama.simulator.web import Answer, Request

_FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


async def metrics(_request: Request, state: ServerState) -> Answer:
    text = "".join(_families(state)) if state.command.log_stats else ""
    return Answer(body=text.encode(), content_type="text/plain; version=1.0.0; charset=utf-8")


def _families(state: ServerState) -> list[str]:
    core, level = state.core, state.sleep_level
    model = f'model_name="{state.first_name}"'
    labels = f'engine="0",{model}'
    rejections = {
        f'{model},reason="max_num_queued_reqs"': state.rejections,
        f'{model},reason="max_num_queued_tokens"': 0,
    }
    sleep_states = {"awake": level is None, "weights_offloaded": level == 1, "discard_all": level == 2}
    return [
        _family("num_requests_running", "gauge", {labels: core.stats.running}),
        _family("num_requests_waiting", "gauge", {labels: core.stats.waiting}),
        _family("kv_cache_usage_perc", "gauge", {labels: core.stats.running / state.command.max_num_seqs}),
        _family(
            "engine_sleep_state",
            "gauge",
            {f'{labels},sleep_state="{name}"': float(value) for name, value in sleep_states.items()},
        ),
        _family("prompt_tokens", "counter", {labels: core.prompt_tokens}),
        _family("generation_tokens", "counter", {labels: core.generation_tokens}),
        _family(
            "request_success",
            "counter",
            {f'engine="0",finished_reason="{reason}",{model}': core.finished[reason] for reason in _FINISH_REASONS},
        ),
        _family("admission_rejections", "counter", rejections),
    ]


def _family(name: str, kind: str, samples: Mapping[str, float]) -> str:
    full = f"vllm:{name}_total" if kind == "counter" else f"vllm:{name}"
    lines = [f"# HELP {full} {name.replace('_', ' ')}.", f"# TYPE {full} {kind}"]
    return "\n".join([*lines, *(f"{full}{{{labels}}} {float(value)}" for labels, value in samples.items()), ""])
