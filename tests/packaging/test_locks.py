"""The locks: every dependency, one version, its hashes, and nothing about where they were made."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.files import ROOT, project

WANTED = {
    "requirements.lock": project()["project"]["dependencies"],
    "requirements-build.lock": project()["dependency-groups"]["build"],
}


def locked(name: str) -> dict[str, str]:
    """Package -> its one version. Every entry must have its hashes."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    entries = re.findall(r"^(\S+?)==(\S+)([^\\\n]*)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n", text, re.MULTILINE)
    rest = re.sub(r"^(\S+?)==(\S+)([^\\\n]*)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n", "", text, flags=re.MULTILINE)
    assert rest.strip() == "", "lines that are no pinned package with hashes"
    versions = {canonicalize_name(package): version for package, version, *_ in entries}
    assert len(versions) == len(entries), "a package twice"
    return versions


@pytest.mark.parametrize("name", WANTED)
def test_it_has_what_is_wanted_in_a_version_that_will_do(name):
    versions = locked(name)
    for wanted in map(Requirement, WANTED[name]):
        version = versions.get(canonicalize_name(wanted.name))
        assert version is not None, f"{wanted.name} is missing: make lock"
        assert wanted.specifier.contains(version), f"{wanted} but {version} is locked: make lock"


@pytest.mark.parametrize("name", WANTED)
def test_it_names_no_index_and_no_place(name):
    assert [
        line for line in (ROOT / name).read_text().splitlines() if re.search(r"://|--\w*-?index|find-links|@ ", line)
    ] == []
