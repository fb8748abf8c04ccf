"""`vllama run` at work: a conversation, its history, and answers as they come."""

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from vllama.cli.client import AdminClient
from vllama.cli.failure import CommandFailed, complain
from vllama.cli.meanwhile import told_meanwhile
from vllama.cli.terminal import is_coloured, show_json

LEAVE = {"/exit", "/quit", "/bye", "exit", "quit"}
HELP = """\
/clear            forget what was said
/system TEXT      another system prompt
\"\"\"               begins and ends a text of several lines
/exit             leave (also /quit, /bye, Ctrl-D); Ctrl-C cuts an answer short"""
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


@dataclass(slots=True)
class Piece:
    """What comes of an answer at a time. `thought`: of its reasoning."""

    text: str
    thought: bool = False


@dataclass(slots=True)
class Talk:
    client: AdminClient
    model: str
    system: str | None = None
    said: list[dict[str, str]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)  # of the latest answer: its finish_reason and usage

    def ask(self, question: str) -> Generator[Piece, None, None]:
        """The answer as it comes. Afterwards both are part of what was said, and where it broke off, neither is; one
        that was cut short by who asked counts as far as it came.
        """
        system = [{"role": "system", "content": self.system}] if self.system else []
        self.said.append({"role": "user", "content": question})
        answer, self.end = "", {}
        try:
            for chunk in told_meanwhile(self.client, self.model, self.client.chat(self.model, [*system, *self.said])):
                for piece in self._pieces(chunk):
                    answer += "" if piece.thought else piece.text
                    yield piece
        except CommandFailed:
            self.said.pop()
            raise
        except (GeneratorExit, KeyboardInterrupt):
            self._remember(answer)
            raise
        self._remember(answer)

    def _remember(self, answer: str) -> None:
        if answer:
            self.said.append({"role": "assistant", "content": answer})
        else:
            self.said.pop()

    def _pieces(self, chunk: dict[str, Any]) -> Iterator[Piece]:
        """A chunk may have no choices (the one with the usage), and a choice nothing to say."""
        if chunk.get("usage"):
            self.end["usage"] = chunk["usage"]
        for choice in chunk.get("choices") or []:
            if choice.get("finish_reason"):
                self.end["finish_reason"] = choice["finish_reason"]
            delta = choice.get("delta") or {}
            if thought := delta.get("reasoning_content") or delta.get("reasoning"):
                yield Piece(thought, thought=True)
            if text := delta.get("content"):
                yield Piece(text)


def once(talk: Talk, question: str, *, as_json: bool) -> None:
    """Only the answer goes to stdout."""
    pieces = talk.ask(question)
    if as_json:
        text = "".join(piece.text for piece in pieces if not piece.thought)
        show_json({"model": talk.model, "content": text, **talk.end})
    else:
        _write(pieces)


def converse(talk: Talk, read: Callable[[str], str] = input) -> None:
    """Until somebody leaves."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415  # arrow keys and history for `input`
    print(f"{talk.model}: /help for help, Ctrl-D to leave.", file=sys.stderr)
    while (question := _question(read)) is not None:
        match question.split(None, 1):
            case []:
                continue
            case ["/help" | "/?"]:
                print(HELP)
            case ["/clear"]:
                talk.said.clear()
            case ["/system", text]:
                talk.system = text
            case [command, *_] if command.startswith("/") and command.isascii() and command[1:].isalpha():
                print(f"There is no {command}.\n{HELP}")
            case _:
                _answer(talk, question)


def _question(read: Callable[[str], str]) -> str | None:
    """None: leave."""
    try:
        line = read(">>> ")
        if line.strip() in LEAVE:
            return None
        if not line.startswith('"""'):
            return line
        lines = [line[3:]]
        while not lines[-1].endswith('"""'):
            lines.append(read("... "))
        return "\n".join(lines)[:-3].strip("\n")
    except (EOFError, KeyboardInterrupt):
        print()
        return None


def _answer(talk: Talk, question: str) -> None:
    """What goes wrong with one answer does not end the conversation."""
    try:
        _write(talk.ask(question))
    except CommandFailed as failed:
        complain(failed.message)
    except KeyboardInterrupt:
        print()


def _write(pieces: Generator[Piece, None, None]) -> None:
    """Thoughts are for eyes only: dim on a terminal, and left out elsewhere. No control codes of a model's making."""
    coloured, dim, last = is_coloured(sys.stdout), False, "\n"
    with contextlib.closing(pieces):
        for piece in pieces:
            if piece.thought and not coloured:
                continue
            if coloured and piece.thought is not dim:
                dim = piece.thought
                sys.stdout.write(DIM if dim else f"{PLAIN}\n")
            text = "".join(char for char in piece.text if char.isprintable() or char in "\n\t")
            sys.stdout.write(text)
            sys.stdout.flush()
            last = text[-1:] or last
    sys.stdout.write((PLAIN if dim else "") + ("" if last == "\n" else "\n"))
    sys.stdout.flush()
