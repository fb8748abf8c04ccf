"""What can be asked of a running engine. A bare 200 is not believed: the answer's own words are."""

import asyncio
import errno
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import httpx

from vllama.domain.spec import SleepLevel
from vllama.engine.address import Address
from vllama.engine.canary import Answer, Question, answer_in, question_for
from vllama.engine.load import EngineLoad, load_of
from vllama.engine.metrics import NoLevel, sleep_level_of
from vllama.engine.progress import Progress, progress_of

SleepMode = Literal["abort", "wait", "keep"]
# What none but its manager may ask of it; over a network an engine answers it to its own host only.
_CONTROLS = frozenset({"/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """Also while asleep, paused and draining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhealthy:
    """503 once the engine's core is dead."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nobody listens: still loading (vLLM binds its port long before it listens), or gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """No answer in time, or a broken one: nothing is known."""

    error: str


Health = Healthy | Unhealthy | Refused | Unanswered


class EngineRefused(Exception):
    """The engine answered a step, and not as it should. `text` is what it said; str() is for a person."""

    def __init__(self, step: str, status: int, text: str) -> None:
        self.step, self.status, self.text = step, status, text
        super().__init__(f"the engine answered {step} with {status}: {text or 'nothing'}")


class EngineUnanswered(Exception):
    """No answer to a step: what the engine did, if anything, is not known. str() is for a person."""

    def __init__(self, step: str, error: str) -> None:
        self.step, self.error = step, error
        super().__init__(f"the engine did not answer {step}: {error}")


class EngineClient:
    """Calls engines by their address. A `timeout_s` bounds the whole call, however many requests it takes.

    `http` should not read proxies from the environment (`trust_env=False`): engines are machines of ours.
    All but `health` raise EngineRefused or EngineUnanswered.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def health(self, at: Address, *, timeout_s: float) -> Health:
        try:
            answer = await self._call("GET", at, "/health", _until(timeout_s))
        except httpx.ConnectError as error:
            return Refused() if _connection_refused(error) else Unanswered(error=_words(error))
        except (httpx.HTTPError, TimeoutError) as error:
            return Unanswered(error=_words(error))
        return Healthy() if answer.status_code == 200 else Unhealthy(status=answer.status_code)

    async def served_models(self, at: Address, *, timeout_s: float) -> tuple[str, ...]:
        """The names that it answers to, LoRA adapters included."""
        answer = await self._get(at, "/v1/models", _until(timeout_s))
        data = _json(answer).get("data")
        ids = [item.get("id") for item in data if isinstance(item, dict)] if isinstance(data, list) else None
        if ids is None:
            raise EngineRefused("GET /v1/models", answer.status_code, _said(answer))
        return tuple(str(name) for name in ids)

    async def is_sleeping(self, at: Address, *, timeout_s: float) -> bool:
        """True also when it is only paused."""
        return await self._sleeps(at, _until(timeout_s))

    async def sleep_level(self, at: Address, *, timeout_s: float) -> SleepLevel | NoLevel | None:
        """The level it sleeps at, from /metrics; None: awake."""
        answer = await self._get(at, "/metrics", _until(timeout_s))
        return sleep_level_of(answer.text)

    async def load(self, at: Address, *, timeout_s: float) -> EngineLoad | None:
        """How busy it is, from /metrics; None: it does not say."""
        return load_of((await self._get(at, "/metrics", _until(timeout_s))).text)

    async def progress(self, at: Address, *, timeout_s: float) -> Progress | None:
        """What it has computed so far, from /metrics; None: it does not say."""
        return progress_of((await self._get(at, "/metrics", _until(timeout_s))).text)

    async def metrics(self, at: Address, *, timeout_s: float) -> str:
        """In Prometheus' text format. It answers while asleep too."""
        return (await self._get(at, "/metrics", _until(timeout_s))).text

    async def canary(self, at: Address, model: str, tasks: Collection[str], *, timeout_s: float) -> Answer | None:
        """The answer to the canary's question; None where `tasks` has none that can be asked.

        It is a request like any other, so it also warms up what the first real one would wait for.
        """
        return await self._answer_to(question_for(model, tasks), at, timeout_s=timeout_s)

    async def one_token(self, at: Address, model: str, tasks: Collection[str], *, timeout_s: float) -> Answer | None:
        """The least that shows that it computes; None as in `canary`. It waits behind whatever the engine computes."""
        return await self._answer_to(question_for(model, tasks, tokens=1), at, timeout_s=timeout_s)

    async def _answer_to(self, question: Question | None, at: Address, *, timeout_s: float) -> Answer | None:
        if question is None:
            return None
        answer = await self._post(at, question.path, _until(timeout_s), question.body)
        found = answer_in(_json(answer))
        if found is None:
            raise EngineRefused(f"POST {question.path}", answer.status_code, _said(answer)[:200])
        return found

    async def sleep(self, at: Address, level: SleepLevel, mode: SleepMode, *, timeout_s: float) -> None:
        """Level 1 or 2. A second sleep answers 200 and changes only what the metric says, not what is held."""
        until = _until(timeout_s)
        answer = await self._post(at, f"/sleep?level={int(level)}&mode={mode}", until)
        await self._expect(at, answer, {"sleeping"}, until)

    async def wake(self, at: Address, level: SleepLevel, *, timeout_s: float) -> None:
        """From the level it sleeps at. Level 2 has no weights to come back to: they are read from disk in between."""
        until = _until(timeout_s)
        match level:
            case SleepLevel.WEIGHTS_OFFLOADED:
                await self._expect(at, await self._post(at, "/wake_up", until), {"awake"}, until)
            case SleepLevel.DISCARDED:
                await self._wake_discarded(at, until)
            case SleepLevel.STOP:
                raise ValueError("a stopped engine is started, not woken")

    async def _wake_discarded(self, at: Address, until: float) -> None:
        answer = await self._post(at, "/wake_up?tags=weights", until)
        await self._expect(at, answer, {"sleeping", "awake"}, until)
        answer = await self._post(at, "/collective_rpc", until, {"method": "reload_weights"})
        if not isinstance(_json(answer).get("results"), list):
            raise EngineRefused("POST /collective_rpc reload_weights", answer.status_code, _said(answer))
        answer = await self._post(at, "/wake_up?tags=kv_cache", until)
        await self._expect(at, answer, {"awake"}, until)
        # What was cached belongs to the weights as they were before.
        answer = await self._post(at, "/reset_prefix_cache", until)
        if _json(answer).get("success", True) is not True:
            raise EngineRefused("POST /reset_prefix_cache", answer.status_code, _said(answer))

    async def _expect(self, at: Address, answer: httpx.Response, wanted: set[str], until: float) -> None:
        status = _json(answer).get("status")
        if status is None and not answer.content:
            # Older vLLM answers with nothing at all; /is_sleeping knows.
            status = "sleeping" if await self._sleeps(at, until) else "awake"
        if status not in wanted:
            raise EngineRefused(f"POST {_path(answer)}", answer.status_code, _said(answer) or f"and is {status}")

    async def _sleeps(self, at: Address, until: float) -> bool:
        answer = await self._get(at, "/is_sleeping", until)
        sleeping = _json(answer).get("is_sleeping")
        if not isinstance(sleeping, bool):
            raise EngineRefused("GET /is_sleeping", answer.status_code, _said(answer))
        return sleeping

    async def _get(self, at: Address, path: str, until: float) -> httpx.Response:
        return await self._ask("GET", at, path, until, None)

    async def _post(self, at: Address, path: str, until: float, body: object = None) -> httpx.Response:
        return await self._ask("POST", at, path, until, body)

    async def _ask(self, method: str, at: Address, path: str, until: float, body: object) -> httpx.Response:
        try:
            answer = await self._call(method, at, path, until, body)
        except (httpx.HTTPError, TimeoutError) as error:
            raise EngineUnanswered(f"{method} {path}", _words(error)) from error
        if answer.status_code != 200:
            raise EngineRefused(f"{method} {path}", answer.status_code, _said(answer))
        return answer

    async def _call(self, method: str, at: Address, path: str, until: float, body: object = None) -> httpx.Response:
        url = (at.control if path.partition("?")[0] in _CONTROLS else at.base_url) + path
        headers = None if at.key is None else {"authorization": f"Bearer {at.key}"}
        async with asyncio.timeout_at(until):
            return await self._http.request(method, url, json=body, headers=headers, timeout=None)


def _until(timeout_s: float) -> float:
    return asyncio.get_running_loop().time() + timeout_s


def _path(answer: httpx.Response) -> str:
    return answer.request.url.raw_path.decode()


def _json(answer: httpx.Response) -> dict[str, object]:
    """The answer's object; empty when it is anything else."""
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _said(answer: httpx.Response) -> str:
    """What the engine says went wrong, without the envelope, in one line of at most 500 characters."""
    value = _json(answer)
    error = value.get("error", value.get("detail"))
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join((message if isinstance(message, str) else answer.text).split())[:500]


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _connection_refused(error: BaseException) -> bool:
    """Looks through what httpx and its layers wrapped around the operating system's error."""
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return True
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return any(_connection_refused(e) for e in (*inner, error.__cause__, error.__context__) if e is not None)
