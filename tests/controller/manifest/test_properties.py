"""Whatever stands in the file: a Manifest, or ManifestInvalid."""

import contextlib

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from vllama.controller.manifest.load import Manifest, load_bytes
from vllama.controller.manifest.problems import FULL_FORM, ManifestInvalid
from vllama.controller.manifest.schema import IdleKeys, ModelKeys, PolicyKeys
from vllama.controller.manifest.settings import SETTINGS

KEYS = sorted({*FULL_FORM, *SETTINGS, *ModelKeys.model_fields, *IdleKeys.model_fields, *PolicyKeys.model_fields})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["auto", "never", "30m", "4GiB", "${X}", "${X", "1:30", "-1", "9" * 40, "http://x", "١٢", "1" * 17 + "TiB"]
    )
    | st.text(max_size=8)
)
WORDS = st.sampled_from(KEYS) | st.text(max_size=6)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5), max_leaves=25
)
SYNTAX = st.text(alphabet=list("ab:-[]{}&*!|>'\"%@`#,? \n\t<0\\Uxu$~=.\u2028\ufeff"), max_size=60)


def survives(content: bytes) -> None:
    try:
        manifest = load_bytes(content, file="f", environ={"X": "1"})
    except ManifestInvalid as invalid:
        said = str(invalid)
    else:
        said = "nothing"
        assert all(spec.spec_hash and spec.device_count >= 1 for spec in manifest.models.values())
    assert said.encode()


@given(st.binary(max_size=200))
def test_any_bytes(content):
    survives(content)


@given(st.text() | SYNTAX)
@example('a: "\\UFFFFFFFF"')
@example("%YAML " + "9" * 5000 + ".1\n--- a")
@example("a: !<")
@example("a: !!float x")
@example("a: !!int ''")
@example("a: !!bool maybe")
@example("a: !!null x")
@example("!!set {a, b}")
@example("<<: *x")
@example("<<: &a {<<: *a}")
@example("a: {extra_args: {'': 1, '-': 2, '--': 3, no-: true, '.': 1}}")
def test_any_text(text):
    with contextlib.suppress(UnicodeEncodeError):
        survives(text.encode())


@given(TREES)
def test_any_tree(tree):
    survives(yaml.safe_dump(tree, allow_unicode=True).encode())


@given(
    st.dictionaries(st.text("ab/", min_size=1, max_size=3), st.dictionaries(st.sampled_from(KEYS), TREES, max_size=4))
)
def test_any_models(models):
    survives(yaml.safe_dump({"models": models, "defaults": next(iter(models.values()), None)}).encode())


NUMBER = st.integers(1, 10_000)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "max_model_len": NUMBER,
        "gpu_memory_utilization": st.integers(1, 100).map(lambda hundredths: hundredths / 100),
        "dtype": st.sampled_from(["auto", "half", "bfloat16"]),
        "trust_remote_code": st.booleans(),
        "tensor_parallel_size": st.integers(1, 8),
        "memory": NUMBER,
        "pin": st.booleans(),
        "priority": st.integers(-5, 5),
        "idle": st.fixed_dictionaries(
            {}, optional={"sleep_after": NUMBER | st.just("never"), "level": st.sampled_from(["auto", 1, 2, 3])}
        ),
        "extra_args": st.dictionaries(
            st.from_regex(r"zz(-[a-z]{1,4}){0,2}", fullmatch=True), NUMBER | st.booleans() | st.text("ab ", min_size=1)
        ),
        "env": st.dictionaries(st.from_regex(r"X_[A-Z]{1,3}", fullmatch=True), st.text("ab :#'", max_size=5)),
    },
)


def read(tree: object) -> Manifest:
    return load_bytes(yaml.safe_dump(tree).encode(), file="f", environ={})


@given(st.dictionaries(st.from_regex(r"[a-c]/[a-z0-9.-]{1,8}", fullmatch=True), SPECS, max_size=4))
def test_what_is_written_is_what_is_read(models):
    manifest = read(models)
    assert manifest == read({"models": models})
    assert list(manifest.models) == sorted(models)  # safe_dump sorts
    for model, said in models.items():
        spec = manifest.models[model]
        for name in ("max_model_len", "gpu_memory_utilization", "dtype", "trust_remote_code", "tensor_parallel_size"):
            assert spec.launch.setting(name) == said.get(name)
        assert dict(spec.launch.extra_args) == said.get("extra_args", {})
        assert dict(spec.launch.env) == said.get("env", {})
        assert (spec.memory_bytes, spec.pin, spec.priority) == (
            said.get("memory"),
            said.get("pin", False),
            said.get("priority", 0),
        )
        assert spec.device_count == said.get("tensor_parallel_size", 1)


@given(SPECS)
def test_defaults_are_what_the_model_says_itself(said):
    beside = read({"models": {"a": said}}).models["a"]
    below = read({"defaults": said, "models": {"a": None}}).models["a"]
    assert beside == below
