"""What is in force for a model, in the words of models.yaml."""

import textwrap

from vllama.controller.manifest import load
from vllama.controller.manifest.effective import effective


def told(tmp_path, text: str, model: str = "org/a") -> dict[str, tuple[object, bool]]:
    (tmp_path / "models.yaml").write_text(textwrap.dedent(text))
    spec = load(tmp_path / "models.yaml", environ={}).models[model]
    return {setting.name: (setting.value, setting.default) for setting in effective(spec)}


def test_what_was_said_and_what_was_not(tmp_path):
    found = told(
        tmp_path,
        """
        defaults: { idle: { sleep_after: 5m } }
        models:
          org/a:
            max_model_len: 32k
            memory: 4GiB
            devices: [0, 1]
            extra_args: { max-num-seqs: 256, numa-bind: true }
            idle: { level: 2 }
        """,
    )
    assert found["max_model_len"] == (32000, False)
    assert found["memory"] == (4 << 30, False)
    assert found["devices"] == ([0, 1], False)
    assert found["max_num_seqs"] == (256, False)  # known by name, so it moved
    assert found["extra_args.numa-bind"] == (True, False)
    assert found["idle.sleep_after"] == (300.0, False)
    assert found["idle.level"] == (2, False)
    assert found["idle.stop_after"] == (None, True)
    assert found["pin"] == (False, True)
    assert found["max_queue"] == (1000, True)


def test_secrets_are_not_told(tmp_path):
    found = told(
        tmp_path,
        """
        models:
          org/a:
            env: { HF_TOKEN: hf_x, PLAIN: y }
            extra_args: { hf-token: abc, middleware: [a, b] }
        """,
    )
    assert found["env.HF_TOKEN"] == ("***", False)
    assert found["env.PLAIN"] == ("y", False)
    assert found["extra_args.hf-token"] == ("***", False)
    assert found["extra_args.middleware"] == (["a", "b"], False)


def test_every_key_of_a_model_is_told(tmp_path):
    """Who adds a key to models.yaml adds it here, too."""
    from vllama.controller.manifest.schema import IdleKeys, ModelKeys

    elsewhere = {"extra_args", "env", "lora", "idle"}  # told with what they hold
    keys = {*ModelKeys.model_fields} - elsewhere | {f"idle.{name}" for name in IdleKeys.model_fields}
    assert keys <= set(told(tmp_path, "models: { org/a: {} }"))
