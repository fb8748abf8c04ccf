"""Groups of GPUs that are linked directly."""

import pytest

from tests.runtime.fake_nvml import FakeGpu, FakeNvml
from vllama.runtime.local.links import linked


def groups(count: int, *links: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    gpus = [FakeGpu(uuid=f"GPU-{index}") for index in range(count)]
    for one, other in links:
        gpus[one].linked.add(gpus[other].uuid)
        gpus[other].linked.add(gpus[one].uuid)
    nvml = FakeNvml(*gpus)
    nvml.nvmlInit()
    return linked(nvml, {index: nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)})


def among(*members: int) -> list[tuple[int, int]]:
    return [(one, other) for one in members for other in members if one < other]


@pytest.mark.parametrize(
    ("count", "links", "expected"),
    [
        (1, [], ()),
        (4, [], ()),
        (2, [(0, 1)], ((0, 1),)),
        (4, [(0, 1), (2, 3)], ((0, 1), (2, 3))),  # bridges
        (16, among(*range(16)), (tuple(range(16)),)),  # a switch
        (3, [(0, 1)], ((0, 1),)),  # one that stands alone
        # eight in a cube mesh: two fours, and each with its counterpart; no group of eight, as not all reach each other
        (8, among(0, 1, 2, 3) + among(4, 5, 6, 7) + [(i, i + 4) for i in range(4)],
         ((0, 1, 2, 3), (0, 4), (1, 5), (2, 6), (3, 7), (4, 5, 6, 7))),
    ],
)  # fmt: skip
def test_all_of_a_group_reach_each_other(count, links, expected):
    assert groups(count, *links) == expected
