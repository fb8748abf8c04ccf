"""The files that models.yaml names for vLLM's --config, checked as extra_args are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vllama.controller.manifest.content import read_content
from vllama.controller.manifest.entry import Entry, flags_of
from vllama.controller.manifest.environment import Environment
from vllama.controller.manifest.findings import Findings
from vllama.controller.manifest.marks import parse
from vllama.controller.manifest.problems import KeyPath, ManifestInvalid, Problem
from vllama.controller.manifest.schema import ModelKeys
from vllama.controller.manifest.settings import VllmSettings
from vllama.controller.manifest.specs import placed


class ConfigFiles:
    """Each is read once. `contents`: by path, None where there is no such file; `problems`: of all."""

    def __init__(self) -> None:
        self.contents: dict[Path, bytes | None] = {}
        self.problems: list[Problem] = []
        self._entries: dict[Path, Entry] = {}

    def of(self, entry: Entry, path: KeyPath, environment: Environment, findings: Findings) -> Entry | None:
        """What the config_file of `entry`, which stands at `path`, says. None: there is none."""
        named = placed(entry.keys.config_file, environment)
        if named is None:
            return None
        file, at = Path(named), (*path, "config_file")
        if file.suffix not in {".yaml", ".yml"}:  # by which vLLM goes
            findings.add(at, f"{named}: its name must end in .yaml or .yml")
            return None
        if file not in self._entries:
            self._entries[file] = self._read(file)
        if self.contents.get(file) is None:
            findings.add(at, f"{named}: there is no such file, or it cannot be read")
        return self._entries[file]

    def _read(self, file: Path) -> Entry:
        self.contents[file] = None
        try:
            content = self.contents[file] = read_content(file)
            document = parse(content or b"", file=str(file), environ=None)
        except ManifestInvalid as invalid:
            self.problems += invalid.problems
            return Entry()
        findings = Findings(document)
        entry = _entry(findings.mapping(document.data, ()), findings)
        self.problems += findings.problems
        return entry


def _entry(data: dict[str, Any], findings: Findings) -> Entry:
    for key in [key for key, value in data.items() if value is None]:
        findings.add((key,), "has no value, and vLLM would take it for the word None; leave the key out")
        del data[key]
    settings: dict[str, Any] = {}
    moved: dict[str, KeyPath] = {}
    flags = flags_of(data, settings, moved, (), findings, group=())
    if settings.get("allowed_media_domains") in ("any", "none"):
        text = "these words are vllama's; write `allowed_media_domains` as a key of the model"
        findings.add(moved["allowed_media_domains"], text)
    checked = findings.validated(VllmSettings, settings, lambda loc: moved[str(loc[0])])
    keys = findings.validated(ModelKeys, {"extra_args": flags}, lambda loc: loc[1:])
    entry = Entry()
    return replace(entry, settings=checked or entry.settings, keys=keys or entry.keys)
