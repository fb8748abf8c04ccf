from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.golden import matches
from tests.cli.pages import AT, running_card, stopped_card
from vllama.cli.render.card import render_card

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime.fromtimestamp(AT, UTC)


def render(card: dict[str, Any], width: int | None = None) -> str:
    return render_card(card, now=NOW, width=width).plain


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("card", [running_card, stopped_card], ids=["running", "stopped"])
def test_a_card_reads_as_its_golden_file(card: Any, width: int) -> None:
    assert matches(GOLDEN / f"show_{card.__name__}_{width}.txt", render(card(), width))


@pytest.mark.parametrize("width", [60, 75, 90])
def test_what_is_prose_is_not_too_wide(width: int) -> None:
    for card in (running_card(), stopped_card()):
        lines = [line for line in render(card, width).splitlines() if not line.startswith("Log")]
        assert max(map(len, lines)) <= width


def test_the_command_can_be_given_to_a_shell() -> None:
    text = render(running_card())
    assert "  --hf-overrides '{\"rope\": 2}'\n" in text
    assert "  vllm serve Qwen/Qwen3-8B \\\n  --served-model-name Qwen/Qwen3-8B \\\n" in text


def test_no_secret_is_in_it() -> None:
    text = render(running_card())
    assert "hf_abc" not in text
    assert "hf-token" in text


def test_an_engine_with_older_settings_is_pointed_out() -> None:
    card = running_card()
    assert "older settings" in render(card)
    card["engine"]["current"] = True
    assert "older settings" not in render(card)
