"""The admin API of one server. Every failure is a CommandFailed with the server's own words."""

import contextlib
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

from vllama.cli.failure import NO_SERVER, CommandFailed
from vllama.domain.status import BEST_FIRST, Phase

CONNECT_S, ANSWER_S = 3.0, 30.0
_END_OF_CERTIFICATE = "-----END CERTIFICATE-----"


class AdminClient:
    def __init__(
        self, url: str, *, api_key: str | None = None, trust: ssl.SSLContext | None = None, answer_s: float = ANSWER_S
    ) -> None:
        """`trust`: whose certificates to believe, where `url` says https."""
        self.url, self._answer_s = url, answer_s
        timeout = httpx.Timeout(answer_s, connect=CONNECT_S)
        verify = trust or url.startswith("https:")  # else certificates are read for nothing
        self._http = httpx.Client(
            base_url=url, timeout=timeout, trust_env=False, headers=_showing(api_key), verify=verify
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def status(self) -> Mapping[str, Any]:
        """`version`, `conditions` and `models`."""
        return self._answer("GET", "/admin/status", having="models")

    def model(self, model: str) -> Mapping[str, Any] | None:
        """The status of `model` (its id), or None where the server has no such model any more.

        With several replicas it is as far up as the best of them: stopped when all are.
        """
        each = [status for status in self.status()["models"] if model in {status["model"], status.get("replica_of")}]
        best = min(each, key=lambda status: BEST_FIRST.index(Phase(status["phase"])), default=None)
        return None if best is None else {**best, "model": model}

    def info(self) -> Mapping[str, Any]:
        """What the server is: `version`, `pid`, `port`, `config_dir` and more."""
        return self._answer("GET", "/admin/info", having="pid")

    def reload(self) -> Mapping[str, Any]:
        """Have it look at models.yaml and the model cache again: `models` (ids) and `conditions` afterwards."""
        return self._answer("POST", "/admin/reload", having="conditions")

    def plans(self, *, settle: bool) -> list[Mapping[str, Any]]:
        answer = self._answer("GET", "/admin/plan", params={"settle": int(settle)}, having="plans")
        return list(answer["plans"])

    def rehearsal(self, models: Sequence[str]) -> Mapping[str, Any]:
        """`asked`, `steps`, and the books `before` and `after`. `models` are any names of theirs."""
        return self._answer("GET", "/admin/plan/request", params={"model": list(models)}, having="asked")

    def suppose(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What would be done if models.yaml said this: `plans`, `anyway`, `start`, `before` and `after`."""
        return self._answer("POST", "/admin/plan/suppose", json=dict(body), having="plans")

    def matrix(self) -> Mapping[str, Any]:
        return self._answer("GET", "/admin/plan/matrix", having="pairs")

    def memory(self) -> Mapping[str, Any]:
        """`nodes`, `astray` and `models`."""
        return self._answer("GET", "/admin/memory", having="nodes")

    def nodes(self) -> Mapping[str, Any]:
        """`nodes`: the machines that engines run on."""
        return self._answer("GET", "/admin/nodes", having="nodes")

    def has_several_nodes(self) -> bool:
        """A server of before there were several does not know the question."""
        with contextlib.suppress(CommandFailed):
            return len(self.nodes()["nodes"]) > 1
        return False

    def servers(self) -> Mapping[str, Any]:
        """The load of `servers` that others run, and a `summary`."""
        return self._answer("GET", "/load-stats", having="servers")

    def card(self, name: str) -> Mapping[str, Any]:
        """All that is known of the model that is called `name`."""
        return self._answer("GET", f"/admin/models/{quote(name, safe='/')}", having="figures")

    def describe(self, name: str) -> Mapping[str, Any]:
        """`metadata`, `spec`, `status` and `events` of the model that is called `name`."""
        return self._answer("GET", f"/admin/models/{quote(name, safe='/')}/describe", having="metadata")

    def why(self, name: str) -> Mapping[str, Any]:
        """Why the engines of the model that is called `name` are where they are."""
        return self._answer("GET", f"/admin/models/{quote(name, safe='/')}/why", having="engines")

    def ask(self, name: str, verb: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """`verb` is start, stop or sleep; `name` may be an alias. The status of the model that is meant."""
        path = f"/admin/models/{quote(name, safe='/')}/{verb}"
        return self._answer("POST", path, json=body, having="model")

    def events(self, model: str | None, limit: int) -> list[Mapping[str, Any]]:
        answer = self._answer("GET", "/admin/events", params=_about(model, limit=limit), having="events")
        return list(answer["events"])

    def follow_events(self, model: str | None, limit: int) -> Iterator[Mapping[str, Any]]:
        for line in self._stream("/admin/events", _about(model, limit=limit, follow=1)):
            yield json.loads(line)

    def logs(self, name: str, lines: int, *, replica: int = 1) -> list[str]:
        path = f"/admin/models/{quote(name, safe='/')}/logs"
        return [*self._stream(path, {"tail": lines, **_number(replica)})]

    def follow_logs(self, name: str, lines: int, *, replica: int = 1) -> Iterator[str]:
        path = f"/admin/models/{quote(name, safe='/')}/logs"
        return self._stream(path, {"tail": lines, "follow": 1, **_number(replica)})

    def chat(self, model: str, messages: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed answer, as OpenAI has them."""
        body = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        for line in self._stream("/v1/chat/completions", method="POST", json=body):
            if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise CommandFailed(str((chunk["error"] or {}).get("message") or chunk["error"]))
            yield chunk

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """An inference request, however long it takes: the status, and the answer (text where it is no JSON)."""
        with self._failing():
            response = self._http.post(path, json=dict(body), timeout=httpx.Timeout(None, connect=CONNECT_S))
        try:
            return response.status_code, response.json()
        except ValueError:
            return response.status_code, response.text

    def _stream(
        self, path: str, params: Mapping[str, Any] | None = None, *, method: str = "GET", **options: Any
    ) -> Iterator[str]:
        """Lines as they come, until the server has no more."""
        with self._failing():
            timeout = httpx.Timeout(None, connect=CONNECT_S)
            with self._http.stream(method, path, params=params, timeout=timeout, **options) as response:
                if response.is_error:
                    response.read()
                    _checked(response, having="")
                yield from response.iter_lines()

    def _answer(self, method: str, path: str, *, having: str, **options: Any) -> Mapping[str, Any]:
        with self._failing():
            response = self._http.request(method, path, **options)
        return _checked(response, having)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """What keeps an answer from coming, as CommandFailed."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if "SSL" in str(error):
                message = f"{self.url} and this command do not agree on TLS: {error}"
                raise CommandFailed(message, exit_code=NO_SERVER) from None
            message = f"no vllama server answers at {self.url}.\n  Start one with `vllama serve`, or name another."
            raise CommandFailed(message, exit_code=NO_SERVER) from None
        except httpx.TimeoutException:
            message = f"{self.url} did not answer within {self._answer_s:g} s."
            raise CommandFailed(message, exit_code=NO_SERVER) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandFailed(f"{self.url}: {error}", exit_code=NO_SERVER) from None


def _number(replica: int) -> dict[str, int]:
    """A server of before there were several knows no such parameter."""
    return {} if replica == 1 else {"replica": replica}


def _about(model: str | None, **params: int) -> dict[str, str | int]:
    return {**params} if model is None else {"model": model, **params}


def trusting(certificate: Path | None) -> ssl.SSLContext:
    """Only who shows `certificate`, by whatever name; None: whom this machine trusts (SSL_CERT_FILE adds to that)."""
    if certificate is None:
        return ssl.create_default_context()
    try:
        own, end, _issuers = certificate.read_text().partition(_END_OF_CERTIFICATE)  # which vouch for others too
        context = ssl.create_default_context(cadata=own + end)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        message = f"the server shows the certificate {certificate}, and that cannot be read: {why}."
        raise CommandFailed(f"{message}\n  Name the server by its own name: --server https://...") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def _showing(api_key: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise CommandFailed("the API key has spaces or characters that no key has (--api-key, VLLAMA_API_KEY).")
    return {"authorization": f"Bearer {api_key}"}


def _checked(response: httpx.Response, having: str) -> Mapping[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    match answer:
        case {"error": {"message": str(message)}} if response.is_error:
            raise CommandFailed(message)
        case dict() if response.is_success and having in answer:
            return answer
    url = response.request.url
    raise CommandFailed(f"{url} answered {response.status_code}, and not as a vllama server does.")
