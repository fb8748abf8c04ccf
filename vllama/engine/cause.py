"""Why an engine failed: the one line of its log that says it, and what to do where we know. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vllama.engine.failures import hint_for
from vllama.engine.logs import LogLine, parse_line

CAUSE_LIMIT_CHARS = 600

# Said by processes that only saw another one fail, or that were told to end.
_WRAPPER = re.compile(
    r"See root cause above|See stack trace|check the stack trace|Failed core proc"
    r"|^(?:[\w.]*\.)?(?:EngineDeadError|EngineGenerateError|CancelledError|KeyboardInterrupt|SystemExit"
    r"|BrokenPipeError|ConnectionResetError|EOFError|ChildProcessError|BrokenProcessPool)\b"
)
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Failed)(?::|$)")
_AFTER_TRACEBACK = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?::|$)")
_USAGE = re.compile(r"[\w./ -]*vllm[\w./ -]*: error: ")
_DIED = re.compile(r"died unexpectedly")
_RUN_BEGINS = re.compile(r"non-default args: |vLLM API server version")
_SERVING = "Application startup complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clue:
    """`weight`: 3 a failure we know, 2 an exception, 1 a process seen dead."""

    weight: int
    text: str


def root_cause(lines: Iterable[str]) -> str | None:
    """The line that says why a start failed or an engine died, with what to do; None: the log does not tell.

    Of several runs in one log, the last; of a run that came to serve, only what came after.
    """
    parsed = _last_run([parse_line(line) for line in lines])
    clues = list(_clues(parsed))
    if not clues:
        return None
    # The latest of the strongest: a failure passes through several processes, which repeat it.
    best = max(reversed(clues), key=lambda clue: clue.weight)
    hint = hint_for(best.text)
    text = best.text if len(best.text) <= CAUSE_LIMIT_CHARS else best.text[: CAUSE_LIMIT_CHARS - 3] + "..."
    return f"{text} [{hint}]" if hint else text


def _last_run(lines: Sequence[LogLine]) -> Sequence[LogLine]:
    for i in range(len(lines) - 1, -1, -1):
        if _SERVING in lines[i].text or _RUN_BEGINS.match(lines[i].text):
            return lines[i + 1 :]
    return lines


def _clues(lines: Sequence[LogLine]) -> Iterable[_Clue]:
    in_traceback: set[str | None] = set()  # by process: their lines interleave
    for i, line in enumerate(lines):
        text = line.text
        if text.startswith("Traceback (most recent call last)"):
            in_traceback.add(line.process)
            continue
        if not text or text[0].isspace():
            continue
        ends_traceback = line.process in in_traceback
        in_traceback.discard(line.process)
        if line.level in {"DEBUG", "INFO", "WARNING"} or _WRAPPER.search(text):
            continue
        exception = _EXCEPTION.match(text) or (ends_traceback and _AFTER_TRACEBACK.match(text))
        full = _whole(text, lines[i + 1 : i + 2])
        if hint_for(full) is not None:
            yield _Clue(weight=3, text=full)
        elif exception or _USAGE.match(text):
            yield _Clue(weight=2, text=full)
        elif _DIED.search(text):
            yield _Clue(weight=1, text=text)


def _whole(text: str, following: Sequence[LogLine]) -> str:
    """Pydantic puts what is wrong on the line after its own."""
    if not re.search(r"\d+ validation errors? for ", text) or not following:
        return text
    what = re.sub(r"\s*\[type=.*", "", following[0].text.strip())
    return f"{text}: {what}"
