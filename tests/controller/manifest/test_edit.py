"""models.yaml changed by a command: what is written, and what is left alone."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllama.controller.manifest import ManifestInvalid, load
from vllama.controller.manifest.beside import CannotEdit
from vllama.controller.manifest.edit import Edit, apply, edited, preview

FULL = """\
# The lab's models.
version: 1

defaults: {gpu_memory_utilization: 0.85}   # of each GPU

models:
  # the small one
  org/a:
    aliases: [small]
    max_model_len: 4096
    auto_start: yes   # asked for by ops
    extra_args:
      max-num-seqs: "256"

  # the other one
  org/b: {priority: 2}
policy:
  reserve: 1GiB
"""
FLAT = "org/a:\n    port: 33301\n    # why\n    devices:\n      - 0\n      - 1\norg/b: {}\n"
LENGTH = ("max_model_len",)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_one_value_changes_one_line() -> None:
    after = edited(FULL, Edit(model="org/a", put={LENGTH: 8192}))
    assert after == FULL.replace("4096", "8192")


def test_a_key_is_added_within_its_group_and_taken_out_with_it() -> None:
    after = edited(FULL, Edit(model="org/a", put={("extra_args", "seed"): 1}, drop=(LENGTH,)))
    assert '      max-num-seqs: "256"\n      seed: 1\n' in after
    assert "max_model_len" not in after
    assert "# asked for by ops" in after
    assert "# the small one" in after
    emptied = edited(FULL, Edit(model="org/a", drop=(("extra_args", "max-num-seqs"),)))
    assert "extra_args" not in emptied


def test_the_flat_form_stays_flat_and_keeps_its_indentation() -> None:
    after = edited(FLAT, Edit(model="org/a", put={("port",): 33302}), Edit(model="org/c", put={("dtype",): "half"}))
    assert after == FLAT.replace("33301", "33302") + "org/c:\n    dtype: half\n"


COMMENTED = """\
models:
  org/a:
    # which
    devices:
      - 0
      - 1  # the second
    # where
    port: 33301  # ours
    # how
    dtype: half
  # b
  org/b: {}  # empty
  # c
  org/c:
    pin: true

# and this
policy: {}
"""


@pytest.mark.parametrize(
    ("edit", "was", "becomes"),
    [
        (Edit(model="org/a", put={("pin",): True}), "    dtype: half\n", "    dtype: half\n    pin: true\n"),
        (Edit(model="org/a", drop=(("dtype",),)), "    dtype: half\n", ""),
        (Edit(model="org/a", drop=(("port",),)), "    port: 33301  # ours\n", ""),
        (
            Edit(model="org/a", put={("devices",): [1]}),
            "devices:\n      - 0\n      - 1  # the second\n",
            "devices: [1]\n",
        ),
        (Edit(model="org/b", put={("pin",): True}), "{}  # empty", "{pin: true} # empty"),
        (Edit(model="org/c", drop=(("pin",),)), "org/c:\n    pin: true\n", "org/c: {}\n"),
        (Edit(model="org/c", put={("idle", "level"): 2}), "pin: true\n", "pin: true\n    idle:\n      level: 2\n"),
        (Edit(model="org/d", put={("pin",): True}), "    pin: true\n", "    pin: true\n  org/d:\n    pin: true\n"),
    ],
)
def test_comments_stay_before_what_they_speak_of(edit: Edit, was: str, becomes: str) -> None:
    assert edited(COMMENTED, edit) == COMMENTED.replace(was, becomes)


def test_a_comment_above_the_second_key_survives_the_first() -> None:
    after = edited(COMMENTED, Edit(model="org/a", drop=(("devices",),)))
    assert after.index("# where") < after.index("port: 33301  # ours") < after.index("# how")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "models:\n", "models: {}\n"])
def test_a_file_without_models_becomes_one_with(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "models.yaml", text)
    apply(path, Edit(model="org/a", put={LENGTH: 8192}), environ={})
    assert load(path, environ={}).models["org/a"].launch.setting("max_model_len") == 8192
    if "nothing" in text:
        assert "# nothing yet" in path.read_text()


def test_there_may_be_no_file_yet(tmp_path: Path) -> None:
    path = tmp_path / "new" / "models.yaml"
    apply(path, Edit(model="org/a", put={("auto_start",): True}), environ={})
    assert path.read_text() == "models:\n  org/a:\n    auto_start: true\n"


@pytest.mark.parametrize(
    ("key", "value"), [(("gpu_memory_utilization",), 1.5), (("max_modl_len",), 1), (("extra_args", "host"), "0.0.0.0")]
)
def test_what_would_not_be_valid_is_never_written(tmp_path: Path, key: tuple[str, ...], value: object) -> None:
    path = write(tmp_path / "models.yaml", FULL)
    with pytest.raises(ManifestInvalid):
        apply(path, Edit(model="org/a", put={key: value}), environ={})
    assert path.read_text() == FULL
    assert list(tmp_path.iterdir()) == [path]


def test_a_mistake_can_be_taken_out(tmp_path: Path) -> None:
    path = write(tmp_path / "models.yaml", "org/a: {max_modl_len: 5, port: 33301}\n")
    apply(path, Edit(model="org/a", drop=(("max_modl_len",),)), environ={})
    assert path.read_text() == "org/a: {port: 33301}\n"


def test_a_file_that_is_no_yaml_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "models.yaml", "org/a: {port: 33301\norg/b: {}\n")
    with pytest.raises(CannotEdit):
        apply(path, Edit(model="org/b", put={LENGTH: 5}), environ={})
    assert path.read_text() == "org/a: {port: 33301\norg/b: {}\n"


def test_an_entry_that_two_models_share_is_not_changed_for_one(tmp_path: Path) -> None:
    path = write(tmp_path / "models.yaml", "org/a: &both\n  dtype: half\norg/b: *both\n")
    with pytest.raises(CannotEdit, match="shares settings"):
        apply(path, Edit(model="org/b", put={LENGTH: 5}), environ={})


def test_mode_and_link_stay(tmp_path: Path) -> None:
    real = write(tmp_path / "real.yaml", FULL)
    real.chmod(0o640)
    link = tmp_path / "models.yaml"
    link.symlink_to("real.yaml")
    done = apply(link, Edit(model="org/b", put={("pin",): True}), environ={})
    assert done.changed
    assert link.is_symlink()
    assert "pin: true" in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "models.yaml", FULL)
    before = path.stat().st_ino
    assert not apply(path, Edit(model="org/b", put={("priority",): 2}, drop=(("port",),)), environ={}).changed
    assert path.stat().st_ino == before


def test_line_ends_of_another_system_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "models.yaml", "org/a:\r\n  port: 33301\r\n")
    apply(path, Edit(model="org/a", put={("port",): 33302}), environ={})
    assert path.read_bytes() == b"org/a:\r\n  port: 33302\r\n"


def test_references_stay_references(tmp_path: Path) -> None:
    path = write(tmp_path / "models.yaml", "org/a:\n  env: {HF_TOKEN: '${TOKEN}'}\n")
    apply(path, Edit(model="org/a", put={("port",): 33302}), environ={"TOKEN": "hf_secret"})
    assert path.read_text() == "org/a:\n  env: {HF_TOKEN: '${TOKEN}'}\n  port: 33302\n"


def test_a_read_only_directory_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "models.yaml", FULL)
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="ermission"):
        apply(path, Edit(model="org/b", put={("pin",): True}), environ={})
    tmp_path.chmod(0o700)
    assert path.read_text() == FULL


def test_changes_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    path = write(tmp_path / "models.yaml", "models: {}\n")

    def add(number: int) -> None:
        apply(path, Edit(model=f"org/m{number}", put={("priority",): number}), environ={})

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = load(path, environ={}).models
    assert {spec.priority for spec in found.values()} == set(range(8))


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(value=texts, name=texts)
def test_any_text_that_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, value: str, name: str) -> None:
    path = write(tmp_path_factory.mktemp("edit") / "models.yaml", FULL)
    edit = Edit(model="org/a", put={("env", "SOME"): value, ("tokenizer",): name})
    try:
        done = preview(path, edit, environ={})
    except ManifestInvalid:
        return  # `$`{ and blank names mean something else
    launch = done.new.models["org/a"].launch
    assert dict(launch.env)["SOME"] == value.replace("$$", "$")
    assert launch.setting("tokenizer") == name.replace("$$", "$")
    assert done.after.startswith(FULL[: FULL.index("models:")])
