"""How a command fails: one message on stderr and an exit code, never a traceback."""

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from vllama.cli.render.words import wrapped
from vllama.cli.terminal import is_coloured, width

FAILED, USAGE, NO_SERVER, CHANGES, INTERRUPTED = 1, 2, 3, 10, 130

EPILOG = """\b
Exit codes:
  0    it is done
  1    it failed, or can never be done
  2    the command line is wrong
  3    no server answers
  10   `vllama plan --exit-code`: there is something to do
  130  interrupted (Ctrl-C)
"""


class CommandFailed(Exception):
    """What went wrong and what to do about it, for people. The first line stands after `error:`."""

    def __init__(self, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


def complain(message: str, *, word: str = "error") -> None:
    """`word`: error, or warning where the command goes on."""
    first, *others = message.splitlines() or [""]
    lines = wrapped(first, width(sys.stderr), indent="  ", first=f"{word}: ")
    for line in others:
        lines += wrapped(line, width(sys.stderr), indent="  ")
    text = "\n".join(lines)
    if is_coloured(sys.stderr):
        colour = "31" if word == "error" else "33"
        text = text.replace(f"{word}:", f"\x1b[1;{colour}m{word}:\x1b[0m", 1)
    print(text, file=sys.stderr)


class Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandFailed as failed:
            complain(failed.message)
            raise typer.Exit(failed.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Abort, BrokenPipeError):
            raise  # typer ends quietly on both
        except Exception as error:  # whatever it is, a person reads it
            if hasattr(error, "exit_code") or os.environ.get("VLLAMA_TRACEBACK"):
                raise  # typer's own: usage errors and exits
            text = " ".join(f"{type(error).__name__}: {error}".split())
            complain(f"{text}\nThis is a defect of vllama; VLLAMA_TRACEBACK=1 shows where.")
            raise typer.Exit(FAILED) from None
