"""A model as it would be, as it comes over HTTP: what planning asks for, and nothing that an engine is started with."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vllama.controller.supposed import Supposed
from vllama.domain.spec import OnConflict, Scalar, SleepLevel

_Bytes = Annotated[int, Field(ge=1, le=1 << 53)]
_Seconds = Annotated[float, Field(ge=0, le=1e9)]
_Index = Annotated[int, Field(ge=0, le=4095)]


class SupposedModel(BaseModel):
    """The fields of Supposed."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=256)]
    new_engine: bool
    settings: dict[str, Scalar] = {}
    device_count: Annotated[int, Field(ge=1, le=4096)] = 1
    devices: list[_Index] | None = None
    node: Annotated[str, Field(max_length=256)] | None = None
    memory_bytes: _Bytes | None = None
    sleep_mode: bool = True
    pin: bool = False
    auto_start: bool = False
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    sleep_after_s: _Seconds | None = None
    level: SleepLevel | None = None
    stop_after_s: _Seconds | None = None
    eviction_level: SleepLevel | None = None
    on_conflict: OnConflict = OnConflict.QUEUE

    def supposed(self) -> Supposed:
        said = self.model_dump(exclude={"settings", "devices"})
        devices = None if self.devices is None else tuple(self.devices)
        return Supposed(settings=tuple(sorted(self.settings.items())), devices=devices, **said)
