"""Chance, and nothing else: every draw of a world comes from here, one stream per concern, all from one seed."""

import random

from tests.simulation.profiles import FaultRates


class Fate:
    """`on` False: nothing goes wrong any more, and what happens takes its usual time."""

    def __init__(self, seed: int, rates: FaultRates) -> None:
        self.rates = rates
        self.on = True
        self.seed = seed
        self._rng = random.Random(f"{seed}:faults")

    def stream(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}:{name}")

    def strikes(self, chance: float) -> bool:
        """Draws even while off, so that what comes later does not change."""
        return self._rng.random() < chance and self.on

    def between(self, low: float, high: float) -> float:
        return self._rng.uniform(low, high)

    def one_of(self, *names: str) -> str:
        return self._rng.choice(names)
