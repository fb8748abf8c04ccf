"""The wheel in dist/, installed where nothing else is. `make package` builds it and runs this; it needs an index."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.files import ROOT, project
from tests.whole.server import environment

pytestmark = [pytest.mark.package, pytest.mark.timeout(600)]
VERSION = project()["project"]["version"]


@pytest.fixture(scope="module", params=["locked", "newest"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of programs. `locked`: as in the image; `newest`: as somebody who installs it today."""
    (wheel,) = (ROOT / "dist").glob(f"vllama-{VERSION}-*.whl")
    venv = tmp_path_factory.mktemp(request.param) / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if request.param == "locked":
        subprocess.run([*pip, "--require-hashes", "-r", ROOT / "requirements.lock"], check=True)
        subprocess.run([*pip, "--no-index", "--no-deps", wheel], check=True)
    else:
        subprocess.run([*pip, wheel], check=True)
    return venv / "bin"


def run(program: Path, *args: object, cwd: Path) -> str:
    done = subprocess.run(
        [program, *map(str, args)], cwd=cwd, env=environment(PYTHONPATH="", HOME=str(cwd)),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_missing_or_at_odds(installed, tmp_path):
    assert run(installed / "python", "-m", "pip", "check", cwd=tmp_path).startswith("No broken requirements")


def test_version(installed, tmp_path):
    assert run(installed / "vllama", "--version", cwd=tmp_path) == f"vllama {VERSION}\n"


def test_validate(installed, tmp_path):
    (tmp_path / "models.yaml").write_text("models: {org/a: {}}\n")
    assert run(installed / "vllama", "validate", "models.yaml", cwd=tmp_path) == "ok: 1 model\n"


def test_schema(installed, tmp_path):
    told = json.loads(run(installed / "vllama", "schema", cwd=tmp_path))
    assert told == json.loads((ROOT / "docs" / "models.schema.json").read_text())


def test_all_of_it_can_be_imported(installed, tmp_path):
    program = (
        "import importlib, pkgutil, vllama; "
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(vllama.__path__, 'vllama.') "
        "if not m.name.endswith('__main__')]; print('all')"
    )
    assert run(installed / "python", "-c", program, cwd=tmp_path) == "all\n"
