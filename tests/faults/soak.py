"""All rows of the table of faults again and again, in random order at random moments, under load.

python -m tests.faults.soak --minutes 10 [--seed 7] [--row 21 ...] [--only WORD]

A line for each situation, and a summary. Exit code 1 if anything was other than it must be; what failed says the seed
and the row by which it is played again: `--seed S --row N --times 1`.
"""

import argparse
import asyncio
import importlib
import random
import statistics
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.checks import play
from tests.faults.clients import NEVER, Kind
from tests.faults.house import House
from tests.faults.rows import ROWS, SITUATIONS, Situation
from tests.faults.scene import Scene

FILES = ("test_engine", "test_process", "test_resources", "test_config", "test_clients")
ADOPTED_WITHIN_S = 2.0


@dataclass
class Tally:
    """What a soak is summed up in."""

    played: Counter[int] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    restarts: int = 0
    adoptions_s: list[float] = field(default_factory=list)
    told_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, scene: Scene) -> None:
        self.requests += len(scene.outcomes)
        self.answers.update(outcome.kind.value for outcome in scene.outcomes)
        self.errors.update(f"{each.status} {each.code}" for each in scene.outcomes if each.kind is Kind.TOLD)
        self.adoptions_s += [scene.notes["adoption_s"]] if "adoption_s" in scene.notes else []
        self.told_s += [scene.notes["told_after_s"]] if "told_after_s" in scene.notes else []


class Soak:
    def __init__(self, seed: int, directory: Path) -> None:
        self.dice, self.directory = random.Random(seed), directory
        self.tally = Tally()
        self.house: House | None = None
        self.figures: list[tuple[int, int]] = []  # memory in bytes and open files of the shared vllama, by the way
        self._numbers = iter(range(1, 10**9))

    def shared(self) -> House:
        """One server for all rows that leave it as they found it; another one where it did not live through that."""
        if self.house is None:
            self.house = House(self.directory / f"shared-{next(self._numbers)}")
            self.house.start()
        elif not self.house.is_up:
            self.house.start()
        return self.house

    def play(self, situation: Situation, seed: int) -> None:
        house = None
        began, verdict = time.monotonic(), "ok"
        try:
            if situation.own_server:
                house = situation.house(self.directory / f"own-{next(self._numbers)}")
                house.start()
            else:
                house = self.shared()
            scene = asyncio.run(play(situation, house, seed))
            self.tally.add(scene)
            late = [each for each in (scene.notes.get("adoption_s", 0.0),) if each > ADOPTED_WITHIN_S]
            assert not late, f"adopted after {late[0]:.1f} s"
            if situation.own_server:
                house.close()
        except pytest.skip.Exception as skipped:
            verdict = f"skipped: {skipped}"
            self.tally.skipped.append(situation.sentence)
        except (Exception, pytest.fail.Exception) as failure:  # noqa: BLE001  # whatever it is, the next one is played
            where = traceback.extract_tb(failure.__traceback__)[-1]
            verdict = f"FAILED: {str(failure)[:2000]}\n    at {Path(where.filename).name}:{where.lineno}: {where.line}"
            self.tally.failures.append(f"--seed {seed} --row {situation.row} --times 1  # {situation.sentence}")
            self._give_up(house)
        if house is not None and verdict == "ok":
            self.tally.restarts += house.starts if situation.own_server else 0
        took_s = time.monotonic() - began
        self.tally.played[situation.row] += 1
        print(
            f"{time.strftime('%H:%M:%S')} {took_s:5.1f} s  row {situation.row:2}  {situation.sentence}  {verdict}",
            flush=True,
        )
        if self.house is not None and self.house.is_up:
            self.figures.append((self.house.memory_bytes(), self.house.open_files()))

    def _give_up(self, house: House | None) -> None:
        """Its server is not to be believed any more; what it said is kept."""
        if house is None:
            return
        try:
            house.close()
        except AssertionError as left:
            print(f"    and at its end: {left}")
        print(f"    what it said: {house.config_dir / 'serve.out'}", flush=True)
        if house is self.house:
            self.tally.restarts += house.starts - 1
            self.house = None

    def close(self) -> None:
        if self.house is None:
            return
        self.tally.restarts += self.house.starts - 1
        house, self.house = self.house, None
        try:
            house.up.terminate()
            left = house.up_or_ended.engines()
            assert not left, f"{len(left)} processes are left"
            house.close()
        except AssertionError as failure:
            self.tally.failures.append(f"--minutes 10  # the end of it: {failure}")

    def summary(self) -> str:
        tally = self.tally
        never = sum(tally.answers[kind.value] for kind in NEVER)
        kinds = ", ".join(f"{count} {kind}" for kind, count in tally.answers.most_common())
        lines = [
            f"{sum(tally.played.values())} situations of {len(tally.played)} of {len(ROWS)} rows",
            f"{len(tally.failures)} failed, {len(tally.skipped)} skipped",
            "by row: " + ", ".join(f"{row}: {count}" for row, count in sorted(tally.played.items())),
            f"{tally.requests} requests: {kinds}",
            "errors by kind: " + (", ".join(f"{count} {kind}" for kind, count in tally.errors.most_common()) or "none"),
            f"wrong, malformed or never answered: {never}; doubled or left over: each would be a failure",
            f"restarts of vllama: {tally.restarts}; engines adopted or reaped after {_spread(tally.adoptions_s)}",
            f"a failed load is known to all who wait after {_spread(tally.told_s)}",
        ]  # fmt: skip
        if self.figures:
            (memory, files), (memory_now, files_now) = self.figures[0], self.figures[-1]
            most = max(each for each, _ in self.figures)
            lines += [
                f"vllama's memory: {memory >> 20} MiB at first, {memory_now >> 20} at last, {most >> 20} at most",
                f"its open files: {files} at first, {files_now} at last",
            ]
        return "\n".join([*lines, *(f"again: python -m tests.faults.soak {each}" for each in tally.failures)])


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "(none)"
    return f"{statistics.median(seconds) * 1000:.0f} ms ({max(seconds) * 1000:.0f} at most, of {len(seconds)})"


def main() -> int:
    parser = argparse.ArgumentParser(description="Faults at random, for so many minutes.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--row", type=int, action="append", help="only these")
    parser.add_argument("--not-row", type=int, action="append", default=[])
    parser.add_argument("--times", type=int, help="rounds of them, however long they take; the seed is the first's")
    arguments = parser.parse_args()
    for name in FILES:
        importlib.import_module(f"tests.faults.{name}")
    print(f"seed {arguments.seed}", flush=True)
    chosen = [each for each in SITUATIONS if each.row in (arguments.row or ROWS) and each.row not in arguments.not_row]
    soak = Soak(arguments.seed, Path(tempfile.mkdtemp(prefix="vllama-soak-")))
    end, queue, played = time.monotonic() + 60 * arguments.minutes, [], 0
    try:
        while time.monotonic() < end if arguments.times is None else played < arguments.times * len(chosen):
            queue = queue or soak.dice.sample(chosen, len(chosen))
            drawn = soak.dice.randrange(2**32)
            seed = drawn if arguments.times is None or played >= len(chosen) else arguments.seed
            soak.play(queue.pop(), seed)
            played += 1
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        soak.close()
    print(soak.summary(), flush=True)
    return 1 if soak.tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
