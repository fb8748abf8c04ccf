"""What the models' files tell, kept: lists are asked for every few seconds by some clients, and disks may be slow.

Nothing is looked at again before vllama itself has looked at models.yaml and the model cache; then only what changes
with a model's files is, and these are read again only where that did.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vllama.controller.control import Control, Unresolved
from vllama.domain.spec import LaunchSpec, ModelSpec
from vllama.engine.about import About, about
from vllama.engine.revision import Revision, revision_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """`looked`: when, as `Control.looked`."""

    looked: int
    launch: LaunchSpec
    revision: Revision
    about: About


class Files:
    def __init__(self, control: Control, hub: Path | None) -> None:
        self._control, self._hub = control, hub
        self._kept: dict[str, _Kept] = {}
        self._looking = asyncio.Lock()

    async def about(self, specs: Sequence[ModelSpec]) -> list[About]:
        """One for each, in order."""
        if any(self._known(spec) is None for spec in specs):
            async with self._looking:  # whoever else asks waits for these
                await self._look_at([spec for spec in specs if self._known(spec) is None])
                found = [self._kept[spec.model].about for spec in specs]
                self._kept = {model: kept for model, kept in self._kept.items() if self._is_there(model)}
                return found
        return [self._kept[spec.model].about for spec in specs]

    def _known(self, spec: ModelSpec) -> _Kept | None:
        kept = self._kept.get(spec.model)
        return kept if kept is not None and (kept.looked, kept.launch) == (self._control.looked, spec.launch) else None

    async def _look_at(self, specs: Sequence[ModelSpec]) -> None:
        looked, before = self._control.looked, dict(self._kept)
        found = await asyncio.to_thread(lambda: [self._read(spec, before.get(spec.model), looked) for spec in specs])
        self._kept.update(zip((spec.model for spec in specs), found, strict=True))

    def _is_there(self, model: str) -> bool:
        return not isinstance(self._control.resolve(model), Unresolved)

    def _read(self, spec: ModelSpec, before: _Kept | None, looked: int) -> _Kept:
        """Blocks. The revision is taken first: what changes meanwhile is seen the next time."""
        revision = revision_of(spec, self._hub)
        unchanged = before is not None and (before.launch, before.revision) == (spec.launch, revision)
        told = before.about if before is not None and unchanged else about(spec, self._hub)
        return _Kept(looked=looked, launch=spec.launch, revision=revision, about=told)
