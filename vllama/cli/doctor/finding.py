"""What a check found."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from vllama.cli.connect import Reached
from vllama.cli.survey import Machine
from vllama.controller.manifest import ManifestInvalid, load


class Verdict(enum.StrEnum):
    OK = "ok"
    WARN = "warn"  # it runs, but look
    FAIL = "fail"  # no model can be run, or none of some kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`mend`: what to do about it; empty where there is nothing to do."""

    check: str
    verdict: Verdict
    text: str
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is examined. `port` is where a server would listen; `root` is where / is; `now` of the wall clock; `nvml`:
    the module.

    `server`: what /admin/info and /admin/status of a server that runs here say, as `info`, `models`, `conditions`.
    """

    environ: Mapping[str, str]
    config_dir: Path
    host: str
    port: int
    machine: Machine
    server: Reached[Mapping[str, Any]]
    now: float
    nvml: Any = pynvml
    root: Path = Path("/")

    @property
    def only_routes(self) -> bool:
        """models.yaml has servers of others and no models; one with mistakes is complained about elsewhere."""
        try:
            return load(self.config_dir / "models.yaml", environ=self.environ).only_routes
        except ManifestInvalid:
            return False

    @property
    def serves_here(self) -> bool:
        """A server of this configuration directory, on this machine, that answers."""
        answer = self.server.answer
        return answer is not None and answer["info"]["config_dir"] == str(self.config_dir)


def ok(check: str, text: str) -> Finding:
    return Finding(check=check, verdict=Verdict.OK, text=text)


def warn(check: str, text: str, mend: str = "") -> Finding:
    return Finding(check=check, verdict=Verdict.WARN, text=text, mend=mend)


def fail(check: str, text: str, mend: str = "") -> Finding:
    return Finding(check=check, verdict=Verdict.FAIL, text=text, mend=mend)
