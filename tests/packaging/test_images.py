"""`make images`: what docker is told. A script that writes it down stands in for docker."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.files import ROOT, build_args

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
Images = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """`images("NAME=value")`: how make ended, and docker's command lines. It fails for the tag `broken`."""
    told = tmp_path / "told"
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$PWD: $*" >> {told}\ncase "$*" in *broken*) exit 3; esac\n')
    docker.chmod(0o755)

    def run(*words: str) -> tuple[int, list[str]]:
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["make", "-C", str(ROOT), "images", *words], env=env, capture_output=True, text=True, check=False
        )
        lines = told.read_text().splitlines() if told.exists() else []
        return done.returncode, [line.removeprefix(f"{ROOT}: ") for line in lines]

    return run


def test_each_version_of_vllm_gets_an_image_of_its_name(images: Images) -> None:
    assert images("VLLM_TAGS=v0.31.0 latest") == (0, [
        "build --build-arg VLLM_TAG=v0.31.0 -t vllama:v0.31.0 .",
        "build --build-arg VLLM_TAG=latest -t vllama:latest .",
    ])  # fmt: skip


def test_the_image_may_be_called_otherwise_and_the_version_is_the_dockerfiles(images: Images) -> None:
    tag = build_args()["VLLM_TAG"]
    told = f"build --build-arg VLLM_TAG={tag} -t registry.example/x/vllama:{tag} ."
    assert images("IMAGE=registry.example/x/vllama") == (0, [told])


def test_the_first_that_cannot_be_built_ends_it(images: Images) -> None:
    code, told = images("VLLM_TAGS=broken latest")
    assert (code != 0, len(told)) == (True, 1)
