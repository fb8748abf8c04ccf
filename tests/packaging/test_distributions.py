"""Wheel and source distribution: built from what would be published, and looked into. `make package` installs them."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.packaging.files import ROOT, project, tracked
from tests.packaging.test_dockerfile import copied

NAME = f"vllama-{project()['project']['version']}"


def build(kind: str, tree: Path, out: Path) -> Path:
    """As `build --no-isolation` does, without its look for missing packages."""
    program = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    built = subprocess.run(
        [sys.executable, "-c", program], cwd=tree, capture_output=True, text=True, timeout=100, check=False
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "deprecated" not in built.stderr.lower(), built.stderr
    return out / built.stdout.splitlines()[-1]


def tree_of(names: list[str], tree: Path) -> Path:
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tree_of(tracked(), tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with tarfile.open(sdist) as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since 3.11.4
        archive.extractall(where := tmp_path_factory.mktemp("unpacked"), **safely)
    return where / NAME


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Of the source distribution, as it is published: what is missing there is missing here."""
    return zipfile.ZipFile(build("wheel", unpacked, tmp_path_factory.mktemp("dist")))


def test_the_source_distribution_is_the_whole_repository(unpacked):
    assert [name for name in tracked() if not (unpacked / name).is_file()] == []


def test_the_source_distribution_has_nothing_else(unpacked):
    made = re.compile(r"PKG-INFO|setup\.cfg|vllama\.egg-info/.*")
    inside = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    # building the wheel from it has left its own
    assert {
        name for name in inside - set(tracked()) if not made.fullmatch(name) and not name.startswith("build/")
    } == set()


def test_the_wheel_is_the_package_and_nothing_else(wheel):
    package = {name for name in tracked() if name.startswith("vllama/")}
    inside = {name for name in wheel.namelist() if not name.startswith(f"{NAME}.dist-info/")}
    assert inside == package


def test_the_wheel_says_what_it_is(wheel):
    told = Parser().parsestr(wheel.read(f"{NAME}.dist-info/METADATA").decode())
    assert (told["License-Expression"], told["Requires-Python"]) == ("MIT", ">=3.11")
    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload().startswith("# vllama")
    assert wheel.read(f"{NAME}.dist-info/licenses/LICENSE").decode() == (ROOT / "LICENSE").read_text()
    assert any(
        wanted.startswith("vllm<") and wanted.endswith('extra == "vllm"') for wanted in told.get_all("Requires-Dist")
    )
    assert "vllama = vllama.cli.app:main" in wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()


def test_the_image_builds_the_same_wheel_from_what_it_copies(wheel, tmp_path):
    sources = [name for name in tracked() if any(name == each or name.startswith(f"{each}/") for each in copied())]
    made = zipfile.ZipFile(build("wheel", tree_of(sources, tmp_path / "src"), tmp_path))
    assert set(made.namelist()) == set(wheel.namelist())
