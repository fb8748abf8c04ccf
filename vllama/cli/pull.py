"""`vllama pull`: a model from the hub into the model cache."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from rich.text import Text

from vllama.cli.connect import Reached
from vllama.cli.failure import INTERRUPTED, CommandFailed, complain
from vllama.cli.pull_progress import follow
from vllama.cli.render.words import counted
from vllama.cli.stock import Stock
from vllama.cli.terminal import show, show_json
from vllama.domain.units import format_bytes
from vllama.engine.cache import find, hub_directory
from vllama.engine.download import Download, tidy
from vllama.engine.listing import Listing, PullFailed, endpoint_of, hub_name, look_up, own_token
from vllama.engine.resuming import Stopped

LET_GO_S = 1.0  # of the network, after Ctrl-C
LEFT_LYING_S = 600.0

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def run(name: str, revision: str | None, stock: Stock, *, as_json: bool) -> tuple[Listing, Path]:
    """Fetch it; CommandFailed why not. What was fetched, and the directory where it is."""
    environ = os.environ
    model, revision = meant(name, revision, stock)
    if said := [each for each in _OFFLINE if environ.get(each, "").lower() in {"1", "true", "yes", "on"}]:
        raise CommandFailed(f"{said[0]} is set, so nothing is fetched. Unset it to pull.")
    endpoint, token, hub = endpoint_of(environ), own_token(), hub_directory(environ)
    try:
        listing = look_up(model, revision=revision, endpoint=endpoint, token=token)
        download = Download(listing, hub, endpoint=endpoint, token=token)
        download.check_room()
        _announce(download, as_json=as_json)
        _fetch(download, as_json=as_json)
    except PullFailed as failed:
        raise CommandFailed(str(failed)) from None
    tidy(download.repository, before=time.time() - LEFT_LYING_S)
    return listing, download.snapshot


def meant(name: str, revision: str | None, stock: Stock) -> tuple[str, str | None]:
    """The id and revision: a name of models.yaml means what stands there."""
    spec = stock.specs.get(name) or next((s for s in stock.specs.values() if name in s.aliases), None)
    if spec is not None and spec.launch.path is not None:
        raise CommandFailed(f"models.yaml takes {spec.model} from {spec.launch.path}; there is nothing to fetch.")
    model = spec.model if spec is not None else hub_name(name)
    if model is None or hub_name(model) is None:
        raise CommandFailed(f"{name!r} is no name of a model of the hub; write for example Qwen/Qwen3-0.6B.")
    said = None if spec is None else spec.launch.setting("revision")
    return model, revision or (None if said is None else str(said))


def tell(listing: Listing, directory: Path, told: Reached[Mapping[str, Any]], *, as_json: bool) -> None:
    """How it ended. CommandFailed where what the hub has is not all that vLLM needs."""
    hub = hub_directory(os.environ)
    commit = None if listing.revision == "main" else listing.commit
    found = find(hub, listing.model, revision=commit)
    missing, note = ((), "") if found is None else (found.missing, found.note)
    callable_as = listing.model if told.answer is not None and listing.model in told.answer["models"] else None
    if as_json:
        show_json({
            "model": listing.model, "revision": listing.revision, "commit": listing.commit,
            "directory": str(directory), "size_bytes": listing.size_bytes, "files": len(listing.files),
            "complete": not missing, "missing": list(missing), "note": note, "server": told.url,
            "callable": callable_as is not None,
        })  # fmt: skip
    elif not missing:
        show(Text(f"{listing.model} is complete: {format_bytes(listing.size_bytes)} in {hub}."))
        if callable_as is not None:
            show(Text(f"The server at {told.url} can be asked for it."))
        if listing.revision not in {"main", listing.commit}:
            show(Text(f"models.yaml must say `revision: {listing.revision}` for it to be taken."))
    if told.problem is not None:
        complain(f"{told.problem}\nIt looks for new models once a minute by itself.", word="warning")
    if note:
        complain(f"{listing.model} is fetched; it is {note}.", word="warning")
    elif missing:
        raise CommandFailed(
            f"all that the hub has of {listing.model} is here, and vLLM needs more: {', '.join(missing)}."
        )


def _announce(download: Download, *, as_json: bool) -> None:
    listing, here = download.listing, download.progress().done_bytes
    text = f"{listing.model} at {listing.commit[:12]}: {counted(len(listing.files), 'file')}, "
    text += format_bytes(listing.size_bytes)
    if here:
        text += f", of which {format_bytes(here)} are here"
    if left_out := sum(file.size_bytes for file in listing.left_out):
        text += f"; {format_bytes(left_out)} that vLLM does not read stay there"
    show(Text(f"{text}."), stream=sys.stderr if as_json else sys.stdout)


def _fetch(download: Download, *, as_json: bool) -> None:
    """In a thread, so that Ctrl-C is heard at once."""
    ended: list[BaseException | None] = []
    over = threading.Event()  # an interrupted join() would take the thread for ended

    def work() -> None:
        try:
            download.run()
        except BaseException as error:  # noqa: BLE001  # it is raised again where it is heard
            ended.append(error)
        else:
            ended.append(None)
        over.set()

    threading.Thread(target=work, name="pull", daemon=True).start()
    try:
        follow(download, over, stream=sys.stderr if as_json else sys.stdout)
    except KeyboardInterrupt:
        _interrupted(download, over)
    match ended[0]:
        case None:
            return
        case PullFailed() as failed:
            raise failed
        case Stopped() | KeyboardInterrupt():
            _interrupted(download, over)
        case error:
            raise error


def _interrupted(download: Download, over: threading.Event) -> NoReturn:
    download.stop()
    with contextlib.suppress(KeyboardInterrupt):  # heard already
        over.wait(LET_GO_S)
    progress = download.progress()
    complain(
        f"interrupted; {format_bytes(progress.done_bytes)} of {format_bytes(progress.total_bytes)} are kept, and the "
        "same command goes on from there."
    )
    sys.stdout.flush()
    sys.stderr.flush()
    if not over.is_set():  # it waits for the network, and Python would wait for it
        os._exit(INTERRUPTED)
    raise KeyboardInterrupt
