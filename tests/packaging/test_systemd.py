"""manifests/systemd/vllama.service: systemd takes it, and it leaves the engines the time that they need."""

import configparser
import re
import shutil
import subprocess

import pytest

from tests.packaging.files import ROOT, longest_end_s, seconds
from vllama.domain.spec import Policy

UNIT = ROOT / "manifests" / "systemd" / "vllama.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None)  # strict: no key twice
    unit.optionxform = str
    unit.read(UNIT)
    return unit["Service"]


def test_the_grace_is_enough(service):
    assert seconds(service["TimeoutStopSec"]) >= longest_end_s(Policy())


def test_a_crash_leaves_the_engines_to_be_adopted(service):
    assert (service["KillMode"], service["Restart"], service["OOMPolicy"]) == ("process", "always", "continue")
    assert service["ExecStart"].endswith("/vllama serve")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(("key", "understood"), [("", True), ("KillMod=process\n", False)])
def test_systemd_understands_it(tmp_path, key, understood):
    text = re.sub(r"^ExecStart=\S+", f"{key}ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    (tmp_path / "vllama.service").write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "vllama.service")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    complaints = [line for line in verified.stderr.splitlines() if "vllama.service" in line]
    assert (complaints == []) is understood, complaints
