"""One short question whose answer must not change while an engine lives: asked before it first sleeps, and after wakes.

An engine can come back from sleep healthy, fast, and wrong: weights that were not read again, scales reset to 1.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

QUESTION = "1 2 3 4 5 6 7 8"
TOKENS = 8
MOST_NUMBERS = 256  # of an embedding; garbage shows in any part of it
TOLERANCE = 0.02  # between two runs of the same sum in half precision; garbage is off by much more


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A text for a model that generates, numbers for one that embeds or classifies."""

    text: str | None = None
    numbers: tuple[float, ...] = ()


def question_for(model: str, tasks: Collection[str], *, tokens: int = TOKENS) -> Question | None:
    """Greedy and short: an answer of so many tokens. `tasks` as vLLM lists them (`generate`, `embed`, `classify`);
    None: none that can be asked.
    """
    if "generate" in tasks:
        body = {"model": model, "prompt": QUESTION, "max_tokens": tokens, "temperature": 0, "seed": 0}
        return Question(path="/v1/completions", body=body)
    if "embed" in tasks:
        return Question(path="/v1/embeddings", body={"model": model, "input": QUESTION, "encoding_format": "float"})
    if "classify" in tasks:
        return Question(path="/classify", body={"model": model, "input": QUESTION})
    return None


def answer_in(content: Mapping[str, Any]) -> Answer | None:
    """Out of the engine's JSON; None: not in a shape that is known."""
    match content:
        case {"choices": [{"text": str(text)}, *_]}:
            return Answer(text=text)
        case {"data": [{"embedding": [*numbers]}, *_]} | {"data": [{"probs": [*numbers]}, *_]}:
            return Answer(numbers=tuple(float(number) for number in numbers[:MOST_NUMBERS]))
    return None


def agree(before: Answer, after: Answer) -> bool:
    """Texts to the letter; numbers within what half precision does, and never where one is not a number."""
    if before.text is not None or after.text is not None:
        return before.text == after.text
    if len(before.numbers) != len(after.numbers):
        return False
    scale = max((abs(number) for number in before.numbers), default=0.0) or 1.0
    return all(
        math.isfinite(b) and abs(a - b) <= TOLERANCE * scale
        for a, b in zip(before.numbers, after.numbers, strict=True)
    )  # fmt: skip
