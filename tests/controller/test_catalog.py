"""Which models there are, and when that is looked at."""

import asyncio
from pathlib import Path

import pytest

from vllama.controller.catalog import Catalog
from vllama.controller.events import Events
from vllama.controller.manifest import ManifestWatch
from vllama.controller.profiles import Profiles
from vllama.domain.observed import Footprint
from vllama.domain.spec import ModelSpec


class GrowingCache:
    """A runtime whose model cache has one model more at every look."""

    def __init__(self) -> None:
        self.looks = 0

    async def cached_models(self) -> tuple[str, ...]:
        self.looks += 1
        return tuple(f"org/m{number}" for number in range(self.looks))

    async def footprint(self, spec: ModelSpec) -> Footprint | None:
        return None


@pytest.mark.parametrize(("offline", "later"), [(False, 2), (True, 1)])
def test_offline_looks_at_the_cache_only_when_asked(tmp_path: Path, *, offline: bool, later: int) -> None:
    async def run() -> None:
        events = Events()
        catalog = Catalog(
            watch=ManifestWatch(tmp_path / "models.yaml", lambda: None, environ={}), runtime=GrowingCache(),
            profiles=Profiles(tmp_path / "profiles.json", place="here", events=events), events=events, offline=offline,
        )  # fmt: skip
        await catalog.refresh()
        assert len(catalog.models) == 1
        await catalog.refresh()
        assert len(catalog.models) == later
        await catalog.refresh(anew=True)
        assert len(catalog.models) == later + 1
        assert catalog.refreshed == 3

    asyncio.run(run())
