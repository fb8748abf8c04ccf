"""Which models there are: those that models.yaml declares, and those that lie complete in the model cache."""

import asyncio
from collections.abc import Mapping

from vllama.controller.events import Events
from vllama.controller.manifest import ManifestWatch
from vllama.controller.names import Names
from vllama.controller.profiles import Profiles
from vllama.domain.observed import Footprint
from vllama.domain.replicas import expanded
from vllama.domain.spec import ModelSpec
from vllama.runtime.base import Runtime


class Catalog:
    """`refresh` after every change of the file, and now and then for the cache; reading costs nothing."""

    def __init__(
        self, *, watch: ManifestWatch, runtime: Runtime, profiles: Profiles, events: Events, offline: bool = False
    ) -> None:
        """`offline`: the model cache is looked at once, and then when somebody asks for it."""
        self._offline, self._scanned = offline, False
        self._watch, self._runtime, self._profiles, self._events = watch, runtime, profiles, events
        self._estimates: Mapping[str, Footprint] = {}
        self._merged: Mapping[str, Footprint] = {}
        self._tasks: Mapping[str, frozenset[str]] = {}
        self._merged_at = 0
        self.models: Mapping[str, ModelSpec] = {}
        self.replicas: Mapping[str, ModelSpec] = {}  # all engines that are wished for, the first ones included
        self.names = Names([])
        self._cached: tuple[str, ...] = ()
        self.refreshed = 0  # times
        self._refreshing = asyncio.Lock()

    async def refresh(self, *, anew: bool = False) -> None:
        """Scan the cache and estimate what is new, in threads; then change all at once. `anew`: somebody asks, and all
        is estimated.
        """
        async with self._refreshing:
            manifest = self._watch.current
            if not manifest.policy.only_declared and (anew or not (self._offline and self._scanned)):
                self._cached, self._scanned = await self._runtime.cached_models(), True
            undeclared = () if manifest.policy.only_declared else self._cached
            models = {model: manifest.spec_for_undeclared(model) for model in undeclared} | dict(manifest.models)
            estimates = {model: await self._estimate(spec, anew=anew) for model, spec in models.items()}
            self.models, self.names = models, Names(models.values())
            self.replicas = expanded(models.values())
            self._estimates = {model: estimate for model, estimate in estimates.items() if estimate is not None}
            self._merge()
            self.refreshed += 1
            await asyncio.to_thread(self._profiles.save)

    @property
    def footprints(self) -> Mapping[str, Footprint]:
        """Estimates, with what was measured in their place; by replica, of which one's measurements hold for all."""
        self._keep_merged()
        return self._merged

    def tasks(self, model: str) -> frozenset[str] | None:
        """None: it never said so, with these settings."""
        self._keep_merged()
        return self._tasks.get(model)

    def _keep_merged(self) -> None:
        if self._merged_at != self._profiles.revision:
            self._merge()

    def _merge(self) -> None:
        self._merged_at = self._profiles.revision
        profiles = {model: self._profiles.of(spec) for model, spec in self.models.items()}
        merged = {model: profiles[model].over(found) for model, found in self._estimates.items()}
        served = ((name, spec.served_name) for name, spec in self.replicas.items())
        self._merged = {name: merged[model] for name, model in served if model in merged}
        known = {model: frozenset(profile.supported_tasks) for model, profile in profiles.items()}
        self._tasks = {model: tasks for model, tasks in known.items() if tasks}

    async def _estimate(self, spec: ModelSpec, *, anew: bool) -> Footprint | None:
        """Where the model's settings have not changed, only if it is to be `anew`."""
        known = self.models.get(spec.model)
        if not anew and known is not None and known.spec_hash == spec.spec_hash and spec.model in self._estimates:
            return self._estimates[spec.model]
        try:
            return await self._runtime.footprint(spec)
        except (OSError, ValueError) as error:
            self._events.record("FootprintUnknown", str(error), model=spec.model, warning=True)
            return None
