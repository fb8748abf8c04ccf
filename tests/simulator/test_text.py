import math

from hypothesis import given
from hypothesis import strategies as st

from vllama.simulator.text import cut_at_stop, detokenize, score, tokenize, unit_vector, words


@given(st.lists(st.text("abc", max_size=3)), st.lists(st.text("abc", max_size=2), max_size=3))
def test_what_is_kept_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    kept, stop = cut_at_stop(pieces, stops)
    text, whole = "".join(kept), "".join(pieces)
    if stop is None:
        assert kept == pieces
        assert not any(stop in whole for stop in stops if stop)
    else:
        assert whole.startswith(text + stop)
        assert all(whole.find(other) in {-1, *range(len(text), len(whole))} for other in stops if other)
        assert len(kept) <= len(pieces)


@given(st.text())
def test_tokens_say_what_the_text_said(text: str) -> None:
    assert detokenize(tokenize(text)) == text


@given(st.text(), st.integers(0, 50))
def test_words_are_always_the_same_and_longer_answers_begin_like_shorter_ones(prompt: str, count: int) -> None:
    text = "".join(words("m", prompt, count))
    assert len(text.split()) == count
    assert "".join(words("m", prompt, count + 5)).startswith(text)


def test_models_and_prompts_differ() -> None:
    answers = {"".join(words(model, prompt, 16)) for model in ("a", "b") for prompt in ("x", "y")}
    assert len(answers) == 4


@given(st.text())
def test_vectors_have_length_one(text: str) -> None:
    vector = unit_vector("m", text)
    assert math.isclose(sum(number * number for number in vector), 1, rel_tol=1e-5)
    assert vector == unit_vector("m", text)


@given(st.text(), st.text())
def test_scores_are_between_0_and_1(query: str, document: str) -> None:
    assert 0 <= score("m", query, document) < 1
