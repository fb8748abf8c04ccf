"""What was measured of models, kept in profiles.json. A cache: deleting it loses nothing but knowledge."""

import contextlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vllama.controller.events import Events
from vllama.domain.observed import Footprint
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import MIB
from vllama.engine.canary import Answer
from vllama.runtime.base import EngineProcess

VERSION = 1
FIXED_MARGIN_BYTES = 128 * MIB  # vLLM's log rounds, and what is outside of PyTorch moves a little


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A measurement holds for these settings of the model on this kind of vLLM and device, and for no other; and for
    all replicas.
    """

    model: str
    spec_hash: str
    place: str

    def __str__(self) -> str:
        return f"{self.model} | {self.spec_hash} | {self.place}"


class KeptCanary(BaseModel):
    """What this engine answered before it slept, for a manager that adopts it: half woken it would talk garbage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine_id: str
    text: str | None = None
    numbers: tuple[float, ...] = ()


class Profile(BaseModel):
    """Bytes per device, seconds. None: not measured yet. `refused_levels`: of sleep, that did not do what they say,
    `why_refused`: what they did instead, by level. `supported_tasks` in vLLM's words; empty: not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    asleep_bytes: int | None = None
    weights_bytes: int | None = None
    fixed_bytes: int | None = None
    load_s: float | None = None
    sleep_s: float | None = None
    wake_s: float | None = None
    refused_levels: tuple[int, ...] = ()
    canary: KeptCanary | None = None
    canaries: tuple[KeptCanary, ...] = ()  # of further replicas
    supported_tasks: tuple[str, ...] = ()
    why_refused: dict[int, str] = {}

    def over(self, estimate: Footprint) -> Footprint:
        """The estimate, with what was measured in its place: beside that, the KV cache that was wished for."""
        fixed, awake = estimate.fixed_bytes, estimate.awake_bytes
        if fixed is None and self.fixed_bytes is not None:  # on the CPU the log counts one process of three
            fixed = self.fixed_bytes + FIXED_MARGIN_BYTES
            awake = awake if estimate.cache_bytes is None else fixed + estimate.cache_bytes
        return replace(
            estimate,
            awake_bytes=awake,
            fixed_bytes=fixed,
            asleep_bytes=estimate.asleep_bytes if self.asleep_bytes is None else self.asleep_bytes,
            weights_bytes=estimate.weights_bytes if self.weights_bytes is None else self.weights_bytes,
            refused_levels=estimate.refused_levels | {SleepLevel(level) for level in self.refused_levels},
            load_s=self.load_s,
            sleep_s=self.sleep_s,
            wake_s=self.wake_s,
        )


def known_tasks(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Model -> what vLLM said that it can do, as far as a profiles.json tells; where several do, any. Never raises."""
    try:
        profiles = json.loads(path.read_text())["profiles"]
        said = ((key.partition(" | ")[0], entry["supported_tasks"]) for key, entry in profiles.items())
        return {model: tuple(map(str, tasks)) for model, tasks in said if tasks}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def measured_of(path: Path, specs: Iterable[ModelSpec], estimates: Mapping[str, Footprint]) -> Mapping[str, Footprint]:
    """`estimates`, with what a profiles.json tells of these models in their place; where it was measured in several
    places, in one that is not simulated. Never raises.
    """
    try:
        profiles = {
            str(key): Profile.model_validate(each) for key, each in json.loads(path.read_text())["profiles"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return estimates
    found = dict(estimates)
    for spec in specs:
        start = str(Key(model=spec.served_name, spec_hash=spec.spec_hash, place=""))
        known = sorted((key == f"{start}simulated", key) for key in profiles if key.startswith(start))
        if known and spec.model in estimates:
            found[spec.model] = profiles[known[0][1]].over(estimates[spec.model])
    return found


class Profiles:
    """Reading and noting touch no disk; `load` and `save` block, and never raise."""

    def __init__(self, path: Path, *, place: str, events: Events) -> None:
        """`place`: the version of vLLM and the kind of device."""
        self._path, self._place, self._events = path, place, events
        self._profiles: dict[str, Profile] = {}
        self._changed, self._saving = False, threading.Lock()
        self.revision = 0  # counts what was noted

    def of(self, spec: ModelSpec) -> Profile:
        return self._profiles.get(str(self._key(spec)), Profile())

    def note(self, spec: ModelSpec, **measured: Any) -> None:
        """The latest measurement counts."""
        before = self.of(spec)
        after = before.model_copy(update=measured)
        if after != before:
            self._profiles[str(self._key(spec))] = after
            self._changed = True
            self.revision += 1

    def refuse(self, spec: ModelSpec, level: SleepLevel, why: str = "") -> None:
        """Never again at this level, for this model with these settings. `why` is for people."""
        known = self.of(spec)
        refused = tuple(sorted({*known.refused_levels, int(level)}))
        self.note(spec, refused_levels=refused, why_refused={**known.why_refused, int(level): why})

    def keep_canary(self, spec: ModelSpec, engine_id: str, answer: Answer) -> None:
        """The latest first, and as many as it has replicas."""
        known = self.of(spec)
        others = tuple(one for one in (known.canary, *known.canaries) if one is not None and one.engine_id != engine_id)
        latest = KeptCanary(engine_id=engine_id, text=answer.text, numbers=answer.numbers)
        self.note(spec, canary=latest, canaries=others[: spec.replicas - 1])

    def canary_of(self, engine: EngineProcess) -> Answer | None:
        """What this very engine answered before it slept; None: it never slept, or that is not known any more."""
        key = Key(model=engine.model, spec_hash=engine.spec_hash, place=self._place)
        profile = self._profiles.get(str(key), Profile())
        for kept in (profile.canary, *profile.canaries):
            if kept is not None and kept.engine_id == engine.engine_id:
                return Answer(text=kept.text, numbers=kept.numbers)
        return None

    def load(self) -> None:
        """A file that cannot be understood is set aside, not overwritten."""
        try:
            content = json.loads(self._path.read_text())
            entries = {VERSION: content["profiles"]}[content["version"]]
            self._profiles = {key: Profile.model_validate(entry) for key, entry in entries.items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            aside = self._path.with_suffix(".json.unreadable")
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            why = f"{self._path} was not understood ({str(error).splitlines()[0]}) and is now {aside.name}."
            self._events.record("ProfilesUnreadable", f"{why} Models are measured anew.", warning=True)

    def save(self) -> None:
        """Written whole, by rename, when something changed. A disk that refuses costs only knowledge."""
        with self._saving:
            self._save()

    def _save(self) -> None:
        if not self._changed:
            return
        content = {"version": VERSION, "profiles": {key: p.model_dump() for key, p in sorted(self._profiles.items())}}
        fresh = self._path.with_suffix(".json.new")
        try:
            fresh.write_text(json.dumps(content, indent=1) + "\n")
            fresh.replace(self._path)
            self._changed = False
        except OSError as error:
            self._events.record("ProfilesNotSaved", f"{self._path}: {error.strerror}", warning=True)

    def _key(self, spec: ModelSpec) -> Key:
        return Key(model=spec.served_name, spec_hash=spec.spec_hash, place=self._place)
