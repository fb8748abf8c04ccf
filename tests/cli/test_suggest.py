"""What `vllama init` writes: sizes for the devices that are here, in a file that the server reads."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllama.cli.render.draft import Drafted, draft
from vllama.cli.suggest import FEWEST_TOKENS, MOST_OF_A_DEVICE, Suggestion, suggest
from vllama.controller.manifest.load import load_bytes
from vllama.domain.observed import Device
from vllama.domain.units import GIB
from vllama.engine.estimate import WeightsEstimate
from vllama.engine.kinds import Task
from vllama.engine.platform import Platform


def devices(*gib: float) -> Sequence[Device]:
    return [
        Device(index=index, name="x", total_bytes=int(size * GIB), used_bytes=0) for index, size in enumerate(gib)
    ]  # fmt: skip


def sizes(weights_gib: float, per_token: int | None = 128 << 10, max_len: int | None = 32_768) -> WeightsEstimate:
    return WeightsEstimate(weights_bytes=int(weights_gib * GIB), kv_bytes_per_token=per_token, max_len=max_len)


@pytest.mark.parametrize(
    ("weights", "gpus", "memory_gib", "count", "max_model_len"),
    [
        (sizes(1.2), (24,), 11.5, 1, None),  # 1.2 + 2 of overhead + 8 for 65536 tokens, up to half a GiB
        (sizes(15), (24,), 20.0, 1, 24_576),  # a little context is lost rather than nothing run
        (sizes(15), (24, 24), 13.5, 2, None),  # or none, where there is another GPU
        (sizes(15, max_len=131_072), (48,), 33.0, 1, None),
        (sizes(15, max_len=131_072), (32, 32), 27.0, 1, 81_920),  # a good part of it: one GPU will do
        (sizes(60), (80,), 68.0, 1, None),
        (sizes(130), (80, 80, 80, 80), 36.5, 4, None),
        (sizes(2, per_token=0), (24,), 4.0, 1, None),  # an encoder
    ],
)
def test_on_as_few_devices_as_will_do(
    weights: WeightsEstimate, gpus: tuple[float, ...], memory_gib: float, count: int, max_model_len: int | None
) -> None:
    found = suggest(weights, devices(*gpus), Platform.CUDA)
    assert found.memory_bytes is not None
    assert (found.memory_bytes / GIB, found.device_count, found.max_model_len) == (memory_gib, count, max_model_len)


def test_what_does_not_fit_says_how_much_it_takes() -> None:
    found = suggest(sizes(130), devices(24, 24), Platform.CUDA)
    assert found.memory_bytes is None
    assert found.why == "does not fit: its weights alone take 130.0 GiB, and here are 48.0 GiB"
    assert suggest(sizes(1), [], Platform.CPU).memory_bytes is None


@given(
    st.floats(0.1, 200), st.sampled_from([None, 0, 16 << 10, 128 << 10, 1 << 20]), st.sampled_from([None, 512, 32_768]),
    st.lists(st.sampled_from([8, 24, 80, 140]), max_size=9), st.sampled_from(Platform),
)  # fmt: skip
def test_whatever_is_suggested_fits(
    weights: float, per_token: int | None, max_len: int | None, gpus: list[int], platform: Platform
) -> None:
    found = suggest(sizes(weights, per_token, max_len), devices(*gpus), platform)
    if found.memory_bytes is not None:
        smallest = sorted(gpus, reverse=True)[found.device_count - 1]
        assert 0 < found.memory_bytes <= smallest * GIB * MOST_OF_A_DEVICE
        assert found.max_model_len is None or found.max_model_len >= FEWEST_TOKENS


ODD = ["no", "1.5", "null", "gpt2", "9/a", "~", "<<", "a: b", "-"]


@settings(max_examples=50)
@given(
    st.lists(
        st.builds(
            Drafted,
            model=st.text("aZ9._-é", min_size=1, max_size=4).map(lambda name: f"org/{name}") | st.sampled_from(ODD),
            task=st.sampled_from(Task), size_bytes=st.integers(0, 1 << 40), own_code=st.booleans(),
            suggestion=st.builds(
                Suggestion, memory_bytes=st.none() | st.integers(1, 1 << 40), device_count=st.sampled_from([1, 2, 4]),
                max_model_len=st.none() | st.integers(1, 1 << 20), why=st.just("estimated: because"),
            ),
        ),
        unique_by=lambda each: each.model.rsplit("/")[-1].lower(), max_size=4,
    )
)  # fmt: skip
def test_every_draft_is_read_as_it_is_meant(drafted: list[Drafted]) -> None:
    text = draft(drafted, devices="gpu0 (x, 24.0 GiB)")
    models = load_bytes(text.encode(), file="models.yaml", environ={}).models
    meant = {each.model: each.suggestion for each in drafted if each.suggestion.memory_bytes is not None}
    assert models.keys() == meant.keys()
    for model, spec in models.items():
        assert (spec.memory_bytes, spec.device_count) == (meant[model].memory_bytes, meant[model].device_count)
        assert spec.launch.setting("max_model_len") == meant[model].max_model_len
        assert spec.launch.setting("trust_remote_code") is None
