"""What those are told who cannot wait, or not any longer: how long it would take, and why."""

from vllama.controller.demand import Failure
from vllama.domain.units import format_bytes
from vllama.planner.outlook import Outlook


def queue_full(model: str, outlook: Outlook, *, waiting: int, max_queue: int) -> Failure:
    message = f"{waiting} requests already wait for {model!r} and its max_queue is {max_queue}."
    return Failure(status=429, code="queue_full", message=message, retry_after_s=outlook.ready_in_s)


def queue_memory_full(model: str, outlook: Outlook, *, held_bytes: int, most_bytes: int) -> Failure:
    message = (
        f"The requests that wait hold {format_bytes(held_bytes)}, and with this one it would be more than the "
        f"{format_bytes(most_bytes)} of queue_memory; {model!r} is not ready."
    )
    return Failure(status=503, code="queue_memory_full", message=message, retry_after_s=outlook.ready_in_s)


def maker_away(model: str) -> Failure:
    message = f"The engine of {model!r} that has what is asked for takes no requests now, and no other one has it."
    return Failure(status=503, code="engine_away", message=message, retry_after_s=30.0)


def queue_timeout(model: str, outlook: Outlook, *, timeout_s: float) -> Failure:
    message = f"{model!r} was not ready within {timeout_s:g} s (queue_timeout). {_about(outlook)}"
    return Failure(status=503, code="queue_timeout", message=message, retry_after_s=outlook.ready_in_s)


def max_wait(model: str, outlook: Outlook, *, max_wait_s: float) -> Failure:
    message = f"{model!r} is not ready, and this request waits at most {max_wait_s:g} s. {_about(outlook)}"
    return Failure(status=503, code="max_wait", message=message, retry_after_s=outlook.ready_in_s)


def _about(outlook: Outlook) -> str:
    seconds = max(1, round(outlook.ready_in_s))
    return f"It takes about {seconds} s more.{f' {outlook.why}' if outlook.why else ''}"
