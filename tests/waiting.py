"""Waiting for something to become true, with a deadline: the only way a test may wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
_POLL_S = 0.01


def wait_until(condition: Callable[[], T], *, deadline_s: float = 30, what: str = "the condition") -> T:
    """Ask again and again until the answer is true, and return it. Fails the test with `what` after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: still not so after {deadline_s:g} s")
        time.sleep(_POLL_S)
    return answer


async def async_wait_until(condition: Callable[[], Awaitable[T]], *, deadline_s: float = 30, what: str = "it") -> T:
    """The same for a condition that is awaited."""
    deadline = time.monotonic() + deadline_s
    while not (answer := await condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: still not so after {deadline_s:g} s")
        await asyncio.sleep(_POLL_S)
    return answer
