"""A command as it may be shown to people: of its environment what is not inherited, and no secrets. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping

from vllama.engine.command import EngineCommand

HIDDEN = "***"
PORT = "PORT"  # stands for one that is found when the engine starts

_SECRET_WORDS = frozenset({
    "apikey", "auth", "authorization", "bearer", "cookie", "cookies", "credential", "credentials", "key", "keys",
    "pass", "passphrase", "passwd", "password", "passwords", "pat", "private", "pwd", "secret", "secrets", "session",
    "signature", "token",
})  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LOOKS_SECRET = re.compile(
    r"\b(?:(?:hf_|sk-|pk-|ghp_|gho_|glpat-|github_pat_|xox[abp]-)[A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{16})"
)
_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_IN_JSON = re.compile(r'"([^"\\]*)"(\s*:\s*)"(?:[^"\\]|\\.)*"')


def shown(command: EngineCommand, inherited: Mapping[str, str], *, port_known: bool = True) -> EngineCommand:
    """`port_known` False: the port stands for any."""
    argv = list(masked_arguments(command.argv))
    if not port_known:
        argv[argv.index("--port") + 1] = PORT
    added = [(name, value) for name, value in command.env if inherited.get(name) != value]
    return EngineCommand(argv=tuple(argv), env=tuple((name, masked(name, value)) for name, value in added))


def masked(name: str, value: str) -> str:
    """The value of a variable or setting; HIDDEN where its name speaks of a secret, and what looks like one in it."""
    if _speaks_of_secrets(name):
        return HIDDEN
    value = _IN_JSON.sub(lambda m: f'"{m[1]}"{m[2]}"{HIDDEN}"' if _speaks_of_secrets(m[1]) else m[0], value)
    return _LOOKS_SECRET.sub(HIDDEN, _IN_URL.sub(HIDDEN, value))


def masked_arguments(argv: Iterable[str]) -> Iterator[str]:
    """A flag gives the name to all that follows until the next; `--flag=value` brings its own."""
    name = ""
    for argument in argv:
        if not argument.startswith("--"):
            yield masked(name, argument)
            continue
        name, equals, value = argument.partition("=")
        yield f"{name}={masked(name, value)}" if equals else name


def _speaks_of_secrets(name: str) -> bool:
    """`HF_TOKEN`, `apiKey` and `--hf-token` do, `tokenizer` and `max_num_batched_tokens` do not."""
    return any(word.lower() in _SECRET_WORDS for word in _WORDS.findall(name))
