import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.engine.canary import Answer, agree, answer_in, question_for


def test_texts_agree_to_the_letter():
    assert agree(Answer(text="one two"), Answer(text="one two"))
    assert not agree(Answer(text="one two"), Answer(text="!!!!!!!!"))
    assert not agree(Answer(text=""), Answer(numbers=(1.0,)))


@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1).filter(any), st.floats(-0.01, 0.01))
def test_numbers_agree_within_a_tolerance(numbers, noise):
    scale = max(map(abs, numbers))
    assert agree(Answer(numbers=tuple(numbers)), Answer(numbers=tuple(n + noise * scale for n in numbers)))
    spoilt = (numbers[0] + 0.1 * scale, *numbers[1:])
    assert not agree(Answer(numbers=tuple(numbers)), Answer(numbers=spoilt))


@pytest.mark.parametrize("garbage", [(math.nan, 0.0), (math.inf, 0.0), (0.5,), ()])
def test_what_is_no_number_never_agrees(garbage):
    assert not agree(Answer(numbers=(0.5, 0.0)), Answer(numbers=garbage))


def test_each_task_has_its_question_and_others_have_none():
    assert question_for("m", ["generate"]).path == "/v1/completions"
    assert question_for("m", ["token_embed", "embed"]).path == "/v1/embeddings"
    assert question_for("m", ["token_classify", "classify"]).path == "/classify"
    assert question_for("m", ["transcription"]) is None


def test_an_answer_of_another_shape_is_none():
    assert answer_in({"choices": []}) is None
    assert answer_in({"data": [{"embedding": [0, 1]}]}) == Answer(numbers=(0.0, 1.0))
