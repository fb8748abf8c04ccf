"""What a hub has of a model, and what of that vLLM needs."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from vllama.engine.files import NOT_WEIGHTS

HUB = "https://huggingface.co"

_NAME = re.compile(r"(?:(?:https?://)?(?:hf\.co|huggingface\.co)/)?((?:[\w.-]{1,96}/)?[\w.-]{1,96})/?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Other programs' weights, what was left from training, and what only people look at.
_NEVER = (
    "*.gguf", "*.onnx", "*.onnx_data*", "*.h5", "*.msgpack", "*.tflite", "*.mlmodel", "*.ot", "*.ckpt", "*.nemo",
    "onnx/*", "*/onnx/*", "openvino/*", "*/openvino/*", "original/*", "metal/*", "coreml/*", "*.mlpackage/*",
    "checkpoint-*/*", "runs/*", "*.tfevents*",
    "*.md", ".gitattributes", ".gitignore", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.webp", "*.svg", "*.mp4", "*.pdf",
)  # fmt: skip
_FORMATS = (".safetensors", ".bin", ".pt", ".pth")  # each only where none before it is


class PullFailed(Exception):
    """What went wrong and what to do about it, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """`blob` is what the cache calls its content; `sha256` is known of large files (Git LFS) only."""

    name: str
    size_bytes: int
    blob: str
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Of one commit. `revision` is the branch, tag or commit that was asked for, `left_out` what vLLM does not read."""

    model: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]
    left_out: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def hub_name(text: str) -> str | None:
    """The id that a hub knows, from the ways in which people write it; None: it is none."""
    found = _NAME.fullmatch(text.removesuffix(":latest"))  # as users of Ollama write it
    return None if found is None or ".." in found[1] else found[1]


def endpoint_of(environ: Mapping[str, str]) -> str:
    """HF_ENDPOINT names a mirror."""
    return (environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def own_token() -> str | None:
    """HF_TOKEN, or the one that `hf auth login` left here."""
    from huggingface_hub import get_token  # noqa: PLC0415  # half a second that only a download is worth

    return get_token()


def look_up(model: str, *, revision: str | None, endpoint: str, token: str | None) -> Listing:
    """Asks the hub, which may take seconds. PullFailed where it has no such model or revision, or nothing for vLLM."""
    import huggingface_hub  # noqa: PLC0415  # half a second that only a download is worth

    try:
        info = huggingface_hub.HfApi(endpoint=endpoint, token=token or False).model_info(
            model, revision=revision, files_metadata=True, timeout=30
        )
    except Exception as error:  # what it raises depends on its version and on whom it asks through
        raise PullFailed(why_not(error, model=model, revision=revision, endpoint=endpoint)) from error
    files = [_file(sibling) for sibling in info.siblings or ()]
    names = wanted([file.name for file in files])
    listing = Listing(
        model=model,
        revision=revision or "main",
        commit=str(info.sha),
        files=tuple(file for file in files if file.name in names),
        left_out=tuple(file for file in files if file.name not in names),
    )
    _check_usable(listing)
    return listing


def wanted(names: Collection[str]) -> frozenset[str]:
    """Of the files of a repository those that vLLM reads.

    Where a model comes in several formats, safetensors; but in both layouts where Mistral has two, for it depends on
    vLLM's version which of them it reads.
    """
    kept = [name for name in names if not any(fnmatchcase(name, pattern) for pattern in _NEVER)]
    kept = [name for name in kept if PurePosixPath(name).name not in NOT_WEIGHTS]
    best = _best_formats(kept)
    return frozenset(name for name in kept if _format(name) in {None, best[_folder(name)]})


def why_not(error: BaseException, *, model: str, revision: str | None, endpoint: str) -> str:
    """What to tell a person of what huggingface_hub or the network raised."""
    kinds = {each.__name__ for each in type(error).__mro__}
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if "GatedRepoError" in kinds or getattr(response, "headers", {}).get("x-error-code") == "GatedRepo":
        return (
            f"{model} is gated: accept its terms at {endpoint}/{model}, and set HF_TOKEN to a token of yours that may "
            "read it."
        )
    if "RevisionNotFoundError" in kinds:
        return f"{model} has no branch, tag or commit {revision!r}: see {endpoint}/{model}/tree/main."
    if "RepositoryNotFoundError" in kinds or status in {401, 403, 404}:
        return (
            f"{endpoint} has no model {model}, or does not show it to you.\n"
            "  Check its name; a private model needs HF_TOKEN, set to a token that may read it."
        )
    if "HFValidationError" in kinds:
        return f"{model!r} is no name of a model; write for example Qwen/Qwen3-0.6B."
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE is set, so nothing is fetched. Unset it to pull."
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    if status is not None:
        return f"{endpoint} answered {status} for {model}: {first}\n  Try again later, or a mirror (HF_ENDPOINT)."
    if kinds & {"TransportError", "RequestException", "ConnectionError", "TimeoutError"}:
        return (
            f"{endpoint} cannot be reached: {first}\n"
            "  Behind a proxy set HTTPS_PROXY; a mirror is named by HF_ENDPOINT."
        )
    return f"{model} could not be fetched: {first}"


def _check_usable(listing: Listing) -> None:
    if any(_format(file.name) is not None for file in listing.files):
        return
    has = {PurePosixPath(file.name).suffix for file in listing.left_out} & {".gguf", ".onnx", ".h5", ".msgpack"}
    others = f" (it has {', '.join(sorted(has))})" if has else ""
    raise PullFailed(
        f"{listing.model} has no weights that vLLM reads, neither safetensors nor .bin{others}.\n"
        "  Look for the original of this model; its page usually names it."
    )


def _file(sibling: Any) -> RemoteFile:
    """`lfs` is a dict or an object, by the version of huggingface_hub."""
    lfs = sibling.lfs
    said = None if lfs is None else lfs["sha256"] if isinstance(lfs, dict) else lfs.sha256
    sha256 = said if isinstance(said, str) and _SHA256.fullmatch(said) else None
    return RemoteFile(
        name=str(sibling.rfilename),
        size_bytes=int(sibling.size or 0),
        blob=sha256 or str(sibling.blob_id),
        sha256=sha256,
    )


def _best_formats(names: Iterable[str]) -> dict[str, str | None]:
    best: dict[str, str | None] = {}
    for name in names:
        best.setdefault(_folder(name), None)
        found = _format(name)
        now = best[_folder(name)]
        if found is not None and (now is None or _FORMATS.index(found) < _FORMATS.index(now)):
            best[_folder(name)] = found
    return best


def _format(name: str) -> str | None:
    """None: no weights, nor the index of weights."""
    stem = name.removesuffix(".index.json")
    return next((ending for ending in _FORMATS if stem.endswith(ending)), None)


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent)
