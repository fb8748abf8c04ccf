"""The workflows are valid, run what is there, and trust no action that could be another one tomorrow."""

import re
from typing import Any

import pytest

from tests.packaging.files import ROOT, problems, project, read_yaml, tracked

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name: str) -> dict[str, Any]:
    return read_yaml(ROOT / ".github" / "workflows" / name)


def steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in document["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_it_is_valid(path):
    document = read_yaml(path)
    document["on"] = document.pop(True)  # YAML 1.1 reads `on` so
    assert problems("github-workflows", document) == []
    assert problems("github-workflows", document | {"job": {}}) != []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_whose_version_is_told(path):
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [use for use in used if not re.fullmatch(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./\.github/\S+", use)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_it_may_do_no_more_than_it_must(path):
    document = read_yaml(path)
    assert document["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job or "uses" in job for job in document["jobs"].values())


def test_the_targets_and_files_that_are_named_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = "\n".join(step.get("run", "") for path in WORKFLOWS for step in steps(read_yaml(path)))
    made = set(re.findall(r"^(?:sudo .*)?\bmake ([\w-]+)", commands, re.MULTILINE))
    assert made >= {"check", "test", "test-ray", "package"}
    assert made <= targets
    locks = re.findall(r"-r (\S+)", commands)
    assert locks
    assert set(locks) <= set(tracked())


def test_several_machines_that_cannot_be_made_fail_there_and_are_not_skipped():
    [step] = [step for step in steps(workflow("ci.yml")) if "make test-ray" in step.get("run", "")]
    said = re.fullmatch(r"-W 'error:(.*)'", step["env"]["PYTEST_ADDOPTS"])
    assert said
    assert f'warnings.warn(f"{said[1]}:' in (ROOT / "tests" / "ray" / "conftest.py").read_text()


def test_a_release_waits_for_the_tests_and_publishes_without_a_token():
    jobs = workflow("release.yml")["jobs"]
    assert jobs["ci"]["uses"] == "./.github/workflows/ci.yml"
    for publishing in ("pypi", "image"):
        assert set(jobs[publishing]["needs"]) == {"ci", "version"}
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
    assert not any("with" in step for step in jobs["pypi"]["steps"] if "pypi-publish" in step["uses"])
    assert jobs["image"]["permissions"] == {"contents": "read", "packages": "write"}


def test_every_python_that_is_promised_is_tried():
    promised = {name.rpartition(" ")[2] for name in project()["project"]["classifiers"] if "3." in name}
    assert set(workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]) == promised
