"""Which GPUs are ours, as CUDA_VISIBLE_DEVICES says it. The driver itself is asked in the GPU suite only."""

import pytest

from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local.nvml import visible

UUIDS = ["GPU-aaaa-1", "GPU-bbbb-2", "GPU-abcd-3"]


@pytest.mark.parametrize(
    ("listed", "indices"),
    [
        (None, (0, 1, 2)),
        ("0", (0,)),
        ("2,0", (2, 0)),
        (" 1 , 2 ", (1, 2)),
        ("GPU-bbbb", (1,)),
        ("GPU-aaaa-1,GPU-abcd-3", (0, 2)),
        ("", ()),
        ("-1", ()),
        ("0,-1,2", (0,)),  # CUDA takes nothing after the first that is none
    ],
)
def test_what_is_listed_is_what_is_used(listed, indices):
    assert visible(listed, UUIDS) == indices


@pytest.mark.parametrize(
    ("listed", "said"),
    [("7", "GPUs 0 to 2"), ("GPU-a", "GPU-a"), ("first", "first"), ("MIG-1234", "MIG slices. Use whole GPUs")],
)
def test_what_cannot_be_used_is_refused_in_words(listed, said):
    with pytest.raises(RuntimeFailed, match=said):
        visible(listed, UUIDS)
