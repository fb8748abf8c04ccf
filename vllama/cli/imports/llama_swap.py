"""config.yaml of llama-swap: models that run `vllm serve`, what is loaded at its start, groups, and peers."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vllama.cli.failure import CommandFailed
from vllama.cli.imports.command import Engine, NotVllm, read_command
from vllama.cli.imports.found import Found, Left, Piece
from vllama.cli.imports.macros import UnknownMacro, fill
from vllama.controller.manifest.marks import Document, parse
from vllama.controller.manifest.problems import KeyPath, ManifestInvalid

# vllama does by itself what these say, for every model.
_PLUMBING = frozenset({
    "cmd", "cmdStop", "proxy", "checkEndpoint", "macros", "useModelName", "sendLoadingState", "timeouts", "compat",
})  # fmt: skip
_TAKEN = frozenset({"aliases", "ttl", "env", "concurrencyLimit"})
_OF_THE_TOP = {
    "apiKeys": "make keys with `vllama keys add`; only their hashes are kept",
    "matrix": "vllama puts together what fits the memory, as it is measured; `vllama plan --matrix` shows that",
    "routing": "vllama puts together what fits the memory, as it is measured; see `priority` and `pin`",
    "selectors": "it has no counterpart",
    "profiles": "it has no counterpart",
}
_IGNORED = frozenset({
    "healthCheckTimeout", "logLevel", "logTimeFormat", "logToStdout", "metricsMaxInMemory", "captureBuffer",
    "startPort", "sendLoadingState", "includeAliasesInList", "unloadTimeout", "store",
})  # fmt: skip
Snapshot = Callable[[str], Path | None]  # where a model lies in the model cache


def read(content: bytes, *, file: str, on_disk: Snapshot) -> Found:
    """CommandFailed where it is no YAML."""
    try:
        document = parse(content, file=file, environ=None)
    except ManifestInvalid as invalid:
        raise CommandFailed(str(invalid)) from None
    return _Reader(document, file, on_disk).found()


class _Reader:
    def __init__(self, document: Document, file: str, on_disk: Snapshot) -> None:
        self._document, self._file, self._on_disk = document, file, on_disk
        self._left: list[Left] = []
        self._ids: dict[str, str] = {}  # of models.yaml -> of llama-swap

    def found(self) -> Found:
        top = _mapping(self._document.data)
        preload = _mapping(_mapping(top.get("hooks")).get("on_startup")).get("preload") or []
        pinned = set(self._groups(_mapping(top.get("groups"))))
        models = []
        for name, data in _mapping(top.get("models")).items():
            piece = self._model(name, _mapping(data), top)
            if piece is not None:
                more = {"auto_start": True} if name in preload else {}
                models.append(Piece(name=piece.name, entry={**piece.entry, **more}, line=piece.line))
                if name in pinned:
                    why = "`pin: true` keeps it awake always; without it, it makes room when it is idle"
                    self._leave(("groups",), name, f"its group is persistent: {why}")
        servers = tuple(self._peers(_mapping(top.get("peers"))))
        for key in top:
            if key in _OF_THE_TOP:
                self._leave((key,), key, _OF_THE_TOP[key])
            elif key not in _IGNORED | {"models", "macros", "groups", "peers", "hooks", "globalTTL"}:
                self._leave((key,), key, "this key of llama-swap is not known here")
        return Found(
            tool="llama-swap", file=self._file, models=tuple(models), servers=servers, left=tuple(self._left)
        )  # fmt: skip

    def _leave(self, path: KeyPath, what: str, why: str) -> None:
        self._left.append(Left(file=self._file, line=self._document.line_of(path), what=what, why=why))

    def _model(self, name: str, data: Mapping[str, Any], top: Mapping[str, Any]) -> Piece | None:
        at: KeyPath = ("models", name)
        macros = {**_mapping(top.get("macros")), **_mapping(data.get("macros")), "MODEL_ID": name}
        try:
            engine = read_command(fill(str(data.get("cmd") or ""), macros))
        except NotVllm as other:
            self._leave((*at, "cmd"), name, str(other))
            return None
        except UnknownMacro as unknown:
            self._leave((*at, "cmd"), name, f"{unknown} is not among its macros")
            return None
        for what, why in engine.refused:
            self._leave((*at, "cmd"), f"{name}: {what}", why)
        entry = dict(engine.entry)
        model = self._identity(name, engine, entry)
        if model is None:
            return None
        if engine.vllm is not None:
            entry["vllm"] = engine.vllm
        self._environment(at, engine, data, macros, entry)
        aliases = dict.fromkeys([name, *self._aliases(data), *engine.names])
        entry = {"aliases": [alias for alias in aliases if alias != model], **entry}
        self._limits(at, data, top, entry)
        for key in data:
            if key not in _PLUMBING | _TAKEN:
                self._leave((*at, key), f"{name}: {key}", "models.yaml has no counterpart")
        return Piece(name=model, entry={k: v for k, v in entry.items() if v != []}, line=self._document.line_of(at))

    def _identity(self, name: str, engine: Engine, entry: dict[str, Any]) -> str | None:
        """What models.yaml calls it: the id on the hub, or llama-swap's name of what lies in a directory."""
        if engine.model.startswith(("/", "./", "../", "~", "$")):
            entry["path"] = engine.model
            if engine.model.startswith("."):
                why = "a path that begins with a dot counts from the directory of models.yaml"
                self._leave(("models", name, "cmd"), f"{name}: {engine.model}", why)
            return name
        if self._ids.setdefault(engine.model, name) == name:
            return engine.model
        directory = self._on_disk(engine.model)
        if directory is not None:
            entry["path"] = str(directory)
            return name
        self._leave(
            ("models", name, "cmd"), name,
            f"{engine.model} is run by {self._ids[engine.model]} already, and models.yaml has each id once; "
            "`path:` makes a second of it, once it is on disk",
        )  # fmt: skip
        return None

    def _environment(
        self, at: KeyPath, engine: Engine, data: Mapping[str, Any], macros: Mapping[str, Any], entry: dict[str, Any]
    ) -> None:
        env = dict(engine.env)
        for item in data.get("env") or ():
            variable, _, value = str(item).partition("=")
            try:
                env[variable] = fill(value, macros)
            except UnknownMacro as unknown:
                self._leave((*at, "env"), f"{at[-1]}: {variable}", f"{unknown} is not among its macros")
        devices = env.pop("CUDA_VISIBLE_DEVICES", None)
        env.pop("CUDA_DEVICE_ORDER", None)
        if devices is not None and all(part.strip().isdigit() for part in devices.split(",")):
            entry["devices"] = [int(part) for part in devices.split(",")]
        elif devices is not None:
            why = "write `devices` with the numbers that nvidia-smi gives them"
            self._leave((*at, "env"), f"{at[-1]}: CUDA_VISIBLE_DEVICES={devices}", why)
        if env:
            entry["env"] = env

    def _aliases(self, data: Mapping[str, Any]) -> Iterator[str]:
        for alias in data.get("aliases") or ():
            yield str(alias.get("id") if isinstance(alias, Mapping) else alias)

    def _limits(self, at: KeyPath, data: Mapping[str, Any], top: Mapping[str, Any], entry: dict[str, Any]) -> None:
        """A `ttl` unloads; here a model that is idle for so long goes to sleep, which makes nearly as much room."""
        ttl = data.get("ttl", -1)
        ttl = top.get("globalTTL") if ttl == -1 else ttl
        if isinstance(ttl, int | float):
            entry["idle"] = {"sleep_after": f"{ttl:g}s" if ttl > 0 else "never"}
        if data.get("concurrencyLimit"):
            entry["max_concurrency"] = data["concurrencyLimit"]
            why = "became max_concurrency; who comes beyond it waits here (max_queue), and is not answered 429"
            self._leave((*at, "concurrencyLimit"), f"{at[-1]}: concurrencyLimit", why)

    def _groups(self, groups: Mapping[str, Any]) -> Iterator[str]:
        """The models whose groups others do not evict."""
        for name, data in groups.items():
            group = _mapping(data)
            self._leave(
                ("groups", name), f"group {name}", "vllama puts together what fits the memory; it needs no groups"
            )  # fmt: skip
            if group.get("persistent"):
                yield from map(str, group.get("members") or ())

    def _peers(self, peers: Mapping[str, Any]) -> Iterator[Piece]:
        for name, data in peers.items():
            peer, at = _mapping(data), ("peers", name)
            entry = {"url": peer.get("proxy")}
            if peer.get("apiKey"):
                entry["api_key"] = fill(str(peer["apiKey"]), {})
            for key in peer:
                if key in {"filters", "timeouts"}:
                    self._leave((*at, key), f"peer {name}: {key}", "models.yaml has no counterpart")
            if peer.get("models"):
                self._leave((*at, "models"), f"peer {name}: models", "vllama asks the server itself which it has")
            yield Piece(name=str(entry["url"]), entry=entry, line=self._document.line_of(at))


def _mapping(data: Any) -> Mapping[str, Any]:
    return data if isinstance(data, Mapping) else {}
