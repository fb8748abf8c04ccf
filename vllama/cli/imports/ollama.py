"""Ollama's list of models, by its API or as a file that was saved from there.

What Ollama runs are GGUF files, which vLLM does not: a model is carried over only where its original is known for
certain. The others are named, for somebody to decide.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from vllama.cli.failure import NO_SERVER, CommandFailed
from vllama.cli.imports.found import Found, Left, Piece

DEFAULT_PORT = 11434
_ON_THE_HUB = re.compile(r"(?:hf\.co|huggingface\.co)/([\w.-]+/[\w.-]+?)(?::([\w.-]+))?")
_GGUF = re.compile(r"[-_.]?(?:i1-)?gguf$", re.IGNORECASE)


def address(said: str) -> str:
    """OLLAMA_HOST as a URL: the host and port are each optional there."""
    scheme, _, rest = said.strip().rpartition("://")
    host, _, path = rest.partition("/")
    usual = {"": DEFAULT_PORT, "http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    name, port = (name, port) if colon else (host, "")
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(name, name)  # noqa: S104  # asked, not bound
    return f"{scheme or 'http'}://{name}:{port or usual}" + (f"/{path.strip('/')}" if path.strip("/") else "")


def ask(url: str) -> str:
    """The answer of its /api/tags. CommandFailed where there is none."""
    import httpx  # noqa: PLC0415  # not for a file

    try:
        answer = httpx.get(f"{url}/api/tags", timeout=10, trust_env=False)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"no Ollama answers at {url}: {error}\n  Name another: vllama import http://host:11434"
        raise CommandFailed(message, exit_code=NO_SERVER) from None
    return answer.text


def read(text: str, *, file: str, on_disk: Callable[[str], bool]) -> Found:
    """`on_disk`: whether a model lies complete in the model cache. CommandFailed where it is no such list."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CommandFailed(f"{file} is no JSON: {error}.") from None
    listed = document.get("models") if isinstance(document, dict) else document
    if not isinstance(listed, list) or not all(isinstance(each, dict) and each.get("name") for each in listed):
        raise CommandFailed(f"{file} is not what Ollama's /api/tags answers: a list of models with names.")
    models: dict[str, list[str]] = {}
    left: list[Left] = []
    lines = text.splitlines()
    places: dict[str, int | None] = {}
    for each in listed:
        name = str(each["name"])
        line = next((n for n, said in enumerate(lines, 1) if json.dumps(name) in said and len(lines) > 1), None)
        model = _counterpart(name, each.get("details") or {}, on_disk)
        if model is None:
            left.append(Left(file=file, line=line, what=name, why=_why_not(name, each.get("details") or {})))
        else:
            models.setdefault(model, []).append(name)
            places.setdefault(model, line)
    pieces = tuple(
        Piece(name=model, entry={"aliases": list(_aliases(names))}, line=places[model])
        for model, names in models.items()
    )
    to_do = tuple(f"{each.what}: {each.why}" for each in left)
    return Found(tool="ollama", file=file, models=pieces, left=tuple(left), to_do=to_do)


def _aliases(names: list[str]) -> Iterator[str]:
    """Ollama's clients say a name with or without its `:latest`; vllama takes both."""
    yield from dict.fromkeys(name.removesuffix(":latest") for name in names)


def _counterpart(name: str, details: dict[str, Any], on_disk: Callable[[str], bool]) -> str | None:
    """The id on the Hugging Face hub; None: nobody can be sure."""
    match = _ON_THE_HUB.fullmatch(name)
    if match is None:
        return None
    repository = match[1]
    original = _GGUF.sub("", repository)
    if original == repository and str(details.get("format") or "") != "gguf":
        return repository
    return original if on_disk(original) else None  # of the same publisher, and here already


def _why_not(name: str, details: dict[str, Any]) -> str:
    size = f" ({details['parameter_size']})" if details.get("parameter_size") else ""
    match = _ON_THE_HUB.fullmatch(name)
    if match is not None:
        return f"a GGUF file, which vLLM does not run; https://huggingface.co/{match[1]} names the model it was made of"
    family = f" of the family {details['family']}{size}" if details.get("family") else size
    return f"a GGUF file{family}, which vLLM does not run; find the original on the hub, `vllama pull` it"
