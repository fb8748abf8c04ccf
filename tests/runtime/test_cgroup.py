"""Bounds of control groups, on made-up trees: what the files say, as kernels and container runtimes lay them out."""

from pathlib import Path

import pytest

from vllama.domain.units import GIB, MIB
from vllama.runtime.local import host
from vllama.runtime.local.cgroup import Group, groups

NO_BOUND_V1 = 9223372036854771712


@pytest.fixture
def tree(tmp_path):
    """`tree({path: text})`: a root directory with these files, and 64 GiB of which 60 are available."""

    def make(files: dict[str, str]) -> Path:
        meminfo = f"MemTotal: {64 * GIB // 1024} kB\nMemAvailable: {60 * GIB // 1024} kB\nHugePages_Total: 0\n"
        for path, text in {"proc/meminfo": meminfo, **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return make


def v2(path: str, *, most: str, current: int = 0, cache: int = 0, high: str = "max") -> dict[str, str]:
    group = f"sys/fs/cgroup/{path}".rstrip("/")
    return {
        f"{group}/memory.max": f"{most}\n", f"{group}/memory.high": f"{high}\n",
        f"{group}/memory.current": f"{current}\n", f"{group}/memory.stat": f"anon 1\ninactive_file {cache}\n",
    }  # fmt: skip


def v1(path: str, *, limit: int, usage: int = 0, cache: int = 0, above: int = NO_BOUND_V1) -> dict[str, str]:
    group = f"sys/fs/cgroup/memory/{path}".rstrip("/")
    return {
        f"{group}/memory.limit_in_bytes": f"{limit}\n", f"{group}/memory.usage_in_bytes": f"{usage}\n",
        f"{group}/memory.stat": f"cache 1\nhierarchical_memory_limit {above}\ntotal_inactive_file {cache}\n",
    }  # fmt: skip


def test_without_bounds_it_is_the_machines(tree):
    root = tree({"proc/self/cgroup": "0::/user.slice\n", **v2("user.slice", most="max")})
    assert groups(root) == ()
    assert (host.total_bytes(root), host.available_bytes(root), host.used_bytes(root)) == (64 * GIB, 60 * GIB, 4 * GIB)


def test_without_control_groups_it_is_the_machines(tree):
    assert host.total_bytes(tree({})) == 64 * GIB


def test_of_nested_groups_the_tightest_strikes_wherever_it_stands(tree):
    """A service in a slice: the slice has the lower bound, the service less left below its own."""
    root = tree({
        "proc/self/cgroup": "0::/ai.slice/vllama.service\n",
        **v2("", most="max"),
        **v2("ai.slice", most=str(32 * GIB), current=20 * GIB, cache=2 * GIB),
        **v2("ai.slice/vllama.service", most=str(40 * GIB), current=36 * GIB),
    })  # fmt: skip
    assert groups(root) == (
        Group(limit_bytes=40 * GIB, available_bytes=4 * GIB),
        Group(limit_bytes=32 * GIB, available_bytes=14 * GIB),
    )
    assert host.total_bytes(root) == 32 * GIB
    assert host.available_bytes(root) == 4 * GIB
    assert host.used_bytes(root) == 28 * GIB


def test_a_bound_past_which_everything_crawls_is_a_bound(tree):
    root = tree({"proc/self/cgroup": "0::/a\n", **v2("a", most=str(32 * GIB), high=str(16 * GIB), current=GIB)})
    assert host.total_bytes(root) == 16 * GIB
    assert host.available_bytes(root) == 15 * GIB


@pytest.mark.parametrize("own", ["0::/\n", "0::/system.slice/docker-12ab.scope\n", "0::/../../init\n"])
def test_in_a_container_its_own_group_is_at_the_top_whatever_path_it_is_told(tree, own):
    root = tree({"proc/self/cgroup": own, **v2("", most=str(8 * GIB), current=GIB)})
    assert groups(root) == (Group(limit_bytes=8 * GIB, available_bytes=7 * GIB),)


def test_version_1_nested(tree):
    root = tree({
        "proc/self/cgroup": "11:cpu,cpuacct:/x\n4:memory:/kube/pod/vllama\n0::/\n",
        **v1("", limit=NO_BOUND_V1, usage=50 * GIB),
        **v1("kube/pod", limit=24 * GIB, usage=6 * GIB, cache=GIB),
        **v1("kube/pod/vllama", limit=NO_BOUND_V1, usage=5 * GIB, above=24 * GIB),
    })  # fmt: skip
    assert host.total_bytes(root) == 24 * GIB
    assert host.available_bytes(root) == 19 * GIB


def test_version_1_in_a_container_knows_bounds_of_groups_that_it_does_not_see(tree):
    root = tree({
        "proc/self/cgroup": "4:memory:/docker/12ab\n",
        **v1("", limit=NO_BOUND_V1, usage=2 * GIB, cache=512 * MIB, above=16 * GIB),
    })  # fmt: skip
    assert groups(root) == (Group(limit_bytes=16 * GIB, available_bytes=16 * GIB - 2 * GIB + 512 * MIB),)


def test_the_unified_tree_beside_version_1_has_no_say(tree):
    root = tree({
        "proc/self/cgroup": "4:memory:/\n0::/a\n",
        **v1("", limit=16 * GIB),
        **v2("a", most=str(GIB)),
    })  # fmt: skip
    assert host.total_bytes(root) == 16 * GIB


def test_what_is_used_beyond_the_bound_leaves_nothing_and_not_less(tree):
    root = tree({"proc/self/cgroup": "0::/a\n", **v2("a", most=str(4 * GIB), current=5 * GIB)})
    assert host.available_bytes(root) == 0


def test_on_this_machine_it_adds_up():
    assert 0 < host.available_bytes() <= host.total_bytes() <= host.meminfo()["MemTotal"]
