"""models.yaml as ModelSpecs."""

import pytest

from vllama.controller.manifest.load import Manifest, load, load_bytes
from vllama.controller.manifest.problems import ManifestInvalid
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.domain.spec import IdleSpec, LaunchSpec, ModelSpec, OnConflict, Policy, SleepLevel, VictimPolicy
from vllama.domain.units import GIB, MIB


def read(text, **environ):
    return load_bytes(text.encode(), file="models.yaml", environ=environ)


def only(text, **environ):
    (spec,) = read(text, **environ).models.values()
    return spec


def settings(text, **environ):
    return dict(only(text, **environ).launch.settings)


def test_every_key():
    text = """
    models:
      a:
        gpu_memory_utilization: 0.5
        max_model_len: 32K
        tensor_parallel_size: 2
        trust_remote_code: yes
        hf_overrides: {b: 1, a: [x]}
        extra_args: {some_flag: 3, --other-flag: [x, y], bare: true, unset: null}
        env: {N: 4, S: s}
        vllm: ~/vllm/bin/vllm
        path: /srv/a
        port: 9000
        memory: 4GiB
        devices: [1, 0, 3]
        replicas: 1
        aliases: [b, c]
        lora: {d: ~/d, e: /e}
        pin: true
        auto_start: true
        priority: -3
        idle: {sleep_after: 10m, level: 2, stop_after: 6h}
        eviction_level: 1
        max_concurrency: 8
        max_queue: 0
        queue_timeout: 90
        load_timeout: 20m
        on_conflict: refuse
    """
    assert only(text, HOME="/home/me/") == ModelSpec(
        model="a",
        launch=LaunchSpec(
            settings=(
                ("enable_lora", True),
                ("gpu_memory_utilization", 0.5),
                ("hf_overrides", '{"a": ["x"], "b": 1}'),
                ("lora_modules", ("d=/home/me/d", "e=/e")),
                ("max_model_len", 32768),
                ("tensor_parallel_size", 2),
                ("trust_remote_code", True),
            ),
            extra_args=(("bare", True), ("other-flag", ("x", "y")), ("some-flag", 3)),
            env=(("N", "4"), ("S", "s")),
            vllm="/home/me/vllm/bin/vllm",
            path="/srv/a",
            port=9000,
        ),
        aliases=("b", "c"),
        lora=(("d", "/home/me/d"), ("e", "/e")),
        device_count=2,
        devices=(1, 0, 3),
        memory_bytes=4 * GIB,
        idle=IdleSpec(sleep_after_s=600.0, level=SleepLevel.DISCARDED, stop_after_s=21600.0),
        eviction_level=SleepLevel.WEIGHTS_OFFLOADED,
        pin=True,
        auto_start=True,
        priority=-3,
        max_concurrency=8,
        max_queue=0,
        queue_timeout_s=90.0,
        load_timeout_s=1200.0,
        on_conflict=OnConflict.REFUSE,
    )


@pytest.mark.parametrize(
    "text", ["a:", "a: {}", "models:\n  a:", "a: {pin: null, idle: null, extra_args: null, memory: auto}"]
)
def test_nothing_said_is_the_default_of_everything(text):
    assert only(text) == ModelSpec(model="a")


def test_flat_and_full_say_the_same():
    flat = "a: {max_model_len: 4096}\nb: {devices: [0, 1]}\n"
    full = "models:\n  a: {max_model_len: 4096}\n  b: {devices: [0, 1]}\n"
    assert read(flat) == read(full)


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "{}", "models:", "version: 1\ndefaults:\n"])
def test_an_empty_manifest(text):
    assert read(text) == Manifest()


def test_an_absent_file(tmp_path):
    assert load(tmp_path / "models.yaml", environ={}) == Manifest()
    assert load(tmp_path / "no" / "models.yaml", environ={}) == Manifest()


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ManifestInvalid, match=r": this is not a regular file$"):
        load(tmp_path, environ={})
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ManifestInvalid, match=r": the file cannot be read: Too many levels of symbolic links$"):
        load(tmp_path / "loop", environ={})


def test_the_order_of_keys_does_not_change_an_engine():
    one = only("a: {dtype: half, seed: 1, extra_args: {x: 1, y: 2}, env: {A: a, B: b}}")
    other = only("a: {env: {B: b, A: a}, extra_args: {y: 2, x: 1}, seed: 1, dtype: half}")
    assert one == other
    assert one.spec_hash == other.spec_hash


class TestExtraArgs:
    def test_flags_that_vllama_knows_become_settings(self):
        spec = only("a: {extra_args: {max-num-seqs: '256', --max_model_len: 8k, q: awq, foo: 1}}")
        assert dict(spec.launch.settings) == {"max_num_seqs": 256, "max_model_len": 8000, "quantization": "awq"}
        assert spec.launch.extra_args == (("foo", 1),)

    def test_said_either_way_it_is_the_same_engine(self):
        assert only("a: {extra_args: {max-num-seqs: 256}}") == only("a: {max_num_seqs: 256}")

    def test_numbers_stay_numbers_and_switches_stay_switches(self):
        spec = only("a: {extra_args: {one: 1, yes: true, no: false, half: 0.5, text: '1'}}")
        assert spec.launch.extra_args == (("half", 0.5), ("no", False), ("one", 1), ("text", "1"), ("yes", True))
        assert [type(value) for _, value in spec.launch.extra_args] == [float, bool, int, str, bool]

    def test_negated(self):
        assert settings("a: {extra_args: {no-enable-prefix-caching: true}}") == {"enable_prefix_caching": False}

    def test_what_follows_a_dot_is_kept_as_it_is(self):
        assert only("a: {extra_args: {hf-overrides.max_x: 1}}").launch.extra_args == (("hf-overrides.max_x", 1),)

    @pytest.mark.parametrize("flag", ["enable-sleep-mode: false", "no-enable-sleep-mode: true"])
    def test_sleep_mode_can_be_declined(self, flag):
        assert not only(f"a: {{extra_args: {{{flag}}}}}").sleep_mode


class TestDevices:
    @pytest.mark.parametrize(
        ("text", "count", "devices"),
        [
            ("{}", 1, None),
            ("{devices: auto, tensor_parallel_size: 2}", 2, None),
            ("{devices: [3]}", 1, (3,)),
            ("{devices: [0, 1]}", 2, (0, 1)),
            ("{devices: [0, 1], tensor_parallel_size: 1}", 1, (0, 1)),
            ("{devices: [0, 1, 2, 3], tensor_parallel_size: 2}", 2, (0, 1, 2, 3)),
            ("{tensor_parallel_size: 2, pipeline_parallel_size: 3}", 6, None),
        ],
    )
    def test_how_many_an_engine_takes(self, text, count, devices):
        spec = only(f"a: {text}")
        assert (spec.device_count, spec.devices) == (count, devices)

    @pytest.mark.parametrize(
        ("text", "devices"),
        [("{}", (5,)), ("{devices: auto}", None), ("{devices: [1]}", (1,)), ("{tensor_parallel_size: 2}", None)],
    )
    def test_the_environments_device_is_for_models_that_name_none(self, text, devices):
        assert only(f"a: {text}", VLLAMA_DEFAULT_DEVICE="5").devices == devices


class TestLayers:
    def test_environment_below_defaults_below_model(self):
        environ = {"VLLAMA_UNLOAD_TIMEOUT": "60", "VLLAMA_UNLOAD_MODE": "1"}
        assert only("a:", **environ).idle == IdleSpec(sleep_after_s=60.0, level=SleepLevel.WEIGHTS_OFFLOADED)
        models = "models: {a: {idle: {level: auto}}, b: {idle: {sleep_after: never}}}\n"
        text = "defaults: {idle: {sleep_after: 2m}}\n" + models
        models = read(text, **environ).models
        assert models["a"].idle == IdleSpec(sleep_after_s=120.0, level=None)
        assert models["b"].idle == IdleSpec(sleep_after_s=None, level=SleepLevel.WEIGHTS_OFFLOADED)

    def test_extra_args_and_env_are_laid_upon_each_other(self):
        text = """
        defaults: {extra_args: {x: 1, y: 2, z: 3}, env: {A: a, B: b}}
        models: {a: {extra_args: {y: 5, z: null}, env: {B: null, C: c}}}
        """
        launch = only(text).launch
        assert launch.extra_args == (("x", 1), ("y", 5))
        assert launch.env == (("A", "a"), ("C", "c"))

    def test_a_flag_in_the_defaults_gives_way_to_a_setting(self):
        text = "defaults: {extra_args: {max-num-seqs: 64}}\nmodels: {a: {max_num_seqs: 128}}"
        assert settings(text) == {"max_num_seqs": 128}

    def test_null_brings_back_vllms_own_default(self):
        text = "defaults: {max_model_len: 2048, memory: 4GiB}\nmodels: {a: {max_model_len: null, memory: auto}}"
        assert only(text) == ModelSpec(model="a")

    def test_lists_are_replaced(self):
        assert only("defaults: {devices: [0, 1]}\nmodels: {a: {devices: [2]}}").devices == (2,)

    def test_a_model_that_is_not_declared_has_the_defaults(self):
        text = "defaults: {max_model_len: 4096, pin: true, auto_start: true, idle: {sleep_after: 1m}}\nmodels: {a: }"
        manifest = read(text)
        assert manifest.spec_for_undeclared("x/y") == ModelSpec(
            model="x/y",
            launch=LaunchSpec(settings=(("max_model_len", 4096),)),
            idle=IdleSpec(sleep_after_s=60.0),
            declared=False,
        )
        assert manifest.models["a"].pin

    def test_empty_variables_say_nothing(self):
        empty = dict.fromkeys(("VLLAMA_UNLOAD_TIMEOUT", "VLLAMA_UNLOAD_MODE", "VLLAMA_DEFAULT_DEVICE"), "")
        assert only("a:", **empty) == ModelSpec(model="a")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("never", None), ("null", None), ("", None), ("30m", 1800.0), ("90", 90.0), ("1h30m", 5400.0), ("0.5", 0.5)],
)
def test_how_long_until_sleep(text, seconds):
    assert only(f"a:\n  idle:\n    sleep_after: {text}\n").idle.sleep_after_s == seconds


@pytest.mark.parametrize(
    ("text", "length"),
    [("4096", 4096), ("32k", 32000), ("32K", 32768), ("1.5k", 1500), ("1_000", 1000), ("auto", -1), ("-1", -1)],
)
def test_tokens_as_vllm_reads_them(text, length):
    assert settings(f"a: {{max_model_len: {text}}}") == {"max_model_len": length}


def test_references_give_numbers_and_switches_too():
    spec = only(
        "a: {priority: '${P}', pin: '${B}', memory: '${M}', gpu_memory_utilization: '${U:-0.4}'}", P="7", B="on", M="2g"
    )
    assert (spec.priority, spec.pin, spec.memory_bytes) == (7, True, 2 * GIB)
    assert spec.launch.settings == (("gpu_memory_utilization", 0.4),)


def test_policy():
    text = """
    policy:
      reserve: 256MiB
      host_memory: 64GiB
      only_declared: true
      drain_deadline: 1m
      stop_deadline: 10s
      sleep_deadline: 5s
      wake_deadline: 8s
      fairness: 15s
      ageing: 2m
      probe_deadline: 20s
      probe_interval: 3s
      queue_memory: 64MiB
      stalled_client: 1m
      victims: cost
    """
    assert read(text).policy == Policy(
        reserve_bytes=256 * MIB,
        host_memory_bytes=64 * GIB,
        only_declared=True,
        drain_deadline_s=60.0,
        stop_deadline_s=10.0,
        sleep_deadline_s=5.0,
        wake_deadline_s=8.0,
        fairness_bound_s=15.0,
        ageing_s=120.0,
        probe_deadline_s=20.0,
        probe_interval_s=3.0,
        queue_memory_bytes=64 * MIB,
        stalled_client_s=60.0,
        victims=VictimPolicy.COST,
    )
    assert read("policy: {reserve: 0}").policy == Policy(reserve_bytes=0)


def test_servers_and_balance_are_kept():
    text = """
    servers:
      - {url: "https://one:8443/", max_concurrent_requests: 5}
      - url: http://two
    balance: {max_retries: 0, health_check_interval: 10, health_check_min_success_rate: 0.5}
    """
    manifest = read(text)
    assert manifest.servers == (
        ServerSpec(url="https://one:8443", max_concurrent_requests=5),
        ServerSpec(url="http://two"),
    )
    assert manifest.balance == BalanceSpec(max_retries=0, health_check_interval_s=10.0, min_success_rate=0.5)


def test_a_server_has_a_key_and_further_names_for_its_models():
    text = """
    servers:
      - {url: "https://one/llm/v1/", api_key: "${ROUTER_KEY}", aliases: {big: org/Big, small: org/Small}}
      - {url: "http://two/v1", aliases: {big: org/Big}}
    balance: {queue: 0, queue_timeout: 20s, auto_recovery_threshold: 5, config_reload_interval: 60}
    """
    manifest = read(text, ROUTER_KEY="s3cret")
    one, two = manifest.servers
    assert (one.url, two.url) == ("https://one/llm", "http://two")
    assert one.api_key == "s3cret"
    assert "s3cret" not in repr(manifest)
    assert one.aliases == (("big", "org/Big"), ("small", "org/Small"))
    assert manifest.balance == BalanceSpec(queue=0, queue_timeout_s=20.0, recovery_s=5.0)
