"""`vllama batch` at work."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from vllama.cli.client import AdminClient
from vllama.cli.failure import CommandFailed
from vllama.cli.render.words import counted
from vllama.cli.terminal import show_json

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/score", "/v1/rerank")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    custom_id: str
    path: str
    body: Mapping[str, Any]

    @property
    def model(self) -> str:
        return str(self.body["model"])


def read(requests: Path, results: Path) -> Sequence[Job]:
    """What has no answer yet, in the order of the file. CommandFailed with the line of the first mistake."""
    done = {str(answer.get("custom_id")) for answer in _lines(results, lenient=True) if not answer.get("error")}
    jobs: dict[str, Job] = {}
    for number, line in enumerate(_lines(requests), start=1):
        job = _job(line, f"{requests}:{number}")
        if job.custom_id in jobs:
            raise CommandFailed(f"{requests}:{number}: the custom_id {job.custom_id!r} is used twice.")
        jobs[job.custom_id] = job
    return [job for job in jobs.values() if job.custom_id not in done]


def _job(line: Any, where: str) -> Job:
    match line:
        case {"custom_id": str(name), "method": "POST", "url": str(path), "body": {"model": str(), **_more} as body}:
            if path not in PATHS:
                raise CommandFailed(f"{where}: url is {path!r}; it may be {', '.join(PATHS)}.")
            if body.get("stream"):
                raise CommandFailed(f"{where}: a batch has no use for `stream`.")
            return Job(custom_id=name, path=path, body=body)
    raise CommandFailed(f'{where}: not of the form {{"custom_id", "method": "POST", "url", "body": {{"model", ...}}}}.')


def _lines(path: Path, *, lenient: bool = False) -> list[Any]:
    """`lenient`: no file is an empty one, and a line that was cut short is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        if lenient:
            return []
        raise CommandFailed(f"there is no file {path}.") from None
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    found: list[Any] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if not lenient:
                raise CommandFailed(f"{path}:{number}: not JSON: {error}.") from None
    return found


def run(client: AdminClient, jobs: Sequence[Job], results: Path, *, parallel: int, as_json: bool) -> None:
    """CommandFailed where any request failed; its line in `results` says why, and the next run tries it again."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.model, []).append(job)
    failed: Counter[str] = Counter()
    with _appended(results) as out, ThreadPoolExecutor(parallel) as pool:
        for model in sorted(groups, key=lambda model: not _is_awake(client, model)):
            print(f"{model}: {counted(len(groups[model]), 'request')} ...", file=sys.stderr, flush=True)
            for answer in as_completed([pool.submit(_answer, client, job) for job in groups[model]]):
                failed[model] += answer.result()["error"] is not None
                out.write(json.dumps(answer.result()) + "\n")
                out.flush()
    bad = failed.total()
    if as_json:
        show_json({"answered": len(jobs) - bad, "failed": bad, "results": str(results)})
    else:
        print(f"{counted(len(jobs) - bad, 'answer')} in {results}.")
    if bad:
        raise CommandFailed(
            f"{counted(bad, 'request')} failed; {results} says why, and running it again tries them again."
        )


def _appended(results: Path) -> TextIO:
    """An end that was cut short is ended first."""
    try:
        cut = results.exists() and not results.read_bytes().endswith(b"\n") and results.stat().st_size > 0
        out = results.open("a")
    except OSError as error:
        raise CommandFailed(f"{results} cannot be written: {error.strerror or error}.") from None
    out.write("\n" if cut else "")
    return out


def _is_awake(client: AdminClient, name: str) -> bool:
    return any(
        status["phase"] == "Ready" and (name in {status["model"], *status["aliases"]})
        for status in client.status()["models"]
    )


def _answer(client: AdminClient, job: Job) -> dict[str, Any]:
    """As OpenAI writes it."""
    response: dict[str, Any] | None
    error: dict[str, str] | None
    try:
        status, body = client.post(job.path, job.body)
    except CommandFailed as failed:
        response, error = None, {"code": "no_answer", "message": failed.message}
    else:
        response = {"status_code": status, "request_id": "", "body": body}
        error = None if status < 400 else {"code": str(status), "message": _why(body)}
    return {"id": f"batch_req_{job.custom_id}", "custom_id": job.custom_id, "response": response, "error": error}


def _why(body: Any) -> str:
    match body:
        case {"error": {"message": str(message)}}:
            return message
    return str(body)[:300]
