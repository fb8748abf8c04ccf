"""The tests that need a GPU can be collected anywhere, and say why they do not run."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def pytest_run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args], cwd=ROOT, env=os.environ | env,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_vllm_every_test_for_a_gpu_is_skipped_with_the_reason():
    ran = pytest_run("-m", "gpu", "tests/gpu", VLLAMA_VLLM="/nowhere/vllm")
    assert ran.returncode == 0, ran.stdout
    assert "no vLLM: VLLAMA_VLLM says '/nowhere/vllm', which is not a program that can be run" in ran.stdout
    summary = ran.stdout.splitlines()[-1]
    assert "skipped" in summary
    assert "passed" not in summary
    assert int(summary.split()[0]) >= 12


def test_the_everyday_run_leaves_them_out():
    ran = pytest_run("--collect-only", "tests/gpu")
    assert ran.returncode == 5, ran.stdout  # nothing is left to run
    assert "deselected" in ran.stdout
