"""Which GPUs are ours, as CUDA_VISIBLE_DEVICES says it."""

import pytest

from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local.visible import read_otherwise, visible

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
        ("GPU-b,0", (1, 0)),  # both kinds at once
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,-1,2", (0,)),  # CUDA takes nothing after the first that is none
    ],
)
def test_what_is_listed_is_what_is_used(listed, indices):
    assert visible(listed, UUIDS) == indices


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("7", "names '7', and this machine has GPUs 0 to 2"),
        ("first", "names 'first'"),
        ("GPU-cccc", "names 'GPU-cccc'"),
        ("GPU-a", "'GPU-a', which GPUs 0 and 2 begin with"),
        ("0,0", "names GPU 0 twice"),
        ("1,GPU-bbbb", "names GPU 1 twice"),
        ("MIG-1234", "MIG slices. Name whole GPUs"),
        ("MIG-GPU-aaaa-1/1/0", "MIG slices. Name whole GPUs"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(listed, said):
    with pytest.raises(RuntimeFailed, match=said):
        visible(listed, UUIDS)


def test_one_gpu_is_spoken_of_as_one():
    with pytest.raises(RuntimeFailed, match="this machine has GPU 0"):
        visible("1", UUIDS[:1])


@pytest.mark.parametrize(
    ("listed", "order", "names", "told"),
    [
        ("0,1", "FASTEST_FIRST", ("A100", "T4"), True),
        ("0,1", "FASTEST_FIRST", ("T4", "T4"), False),  # among equals both orders are the same
        ("GPU-aaaa", "FASTEST_FIRST", ("A100", "T4"), False),
        (None, "FASTEST_FIRST", ("A100", "T4"), False),
        ("0,1", "PCI_BUS_ID", ("A100", "T4"), False),
        ("0,1", None, ("A100", "T4"), False),
    ],
)
def test_another_order_than_ours_is_told_where_it_makes_a_difference(listed, order, names, told):
    assert (read_otherwise(listed, order, names) is not None) is told
