"""What people read when models.yaml is wrong: the exact lines."""

import pytest

from vllama.controller.manifest.load import load_bytes
from vllama.controller.manifest.problems import ManifestInvalid

SYNTAX = {
    "a:\n\tb: 1": "2:1: a tab cannot indent YAML; use spaces",
    "a: [1, 2": "1:9: a '{' or '[' is not closed before this; a value with one of , { } [ ] needs quotes",
    "a: {path: ${X}}": "1:12: a '{' or '[' is not closed before this; a value with one of , { } [ ] needs quotes",
    "a: 'x": "1:6: a quote is opened and never closed",
    "a: b: c": "1:5: a ':' is out of place; check the indentation, or put the value in quotes",
    "a:\n  pin: true\n path: x": (
        "3:2: this line fits none of the indentations above it; align it with its neighbours"
    ),
    "a: {}\nb\nc: {}": "3:1: a key without ':'; every key is written 'key: value'",
    "a: {path: @x}": "1:11: a value cannot start with this character; put it in quotes",
    "a: *x": "1:4: this alias (*name) has no anchor (&name) above it; in a value, '*' needs quotes",
    'a: {path: "C:\\models"}': "1:15: this backslash means nothing in double quotes; use single quotes",
    "---\na: {}\n---\nb: {}": "3:1: '---' begins a second document here; this file is one document",
    "a: {}\nb\x01: {}": (
        "2:2: a control character that YAML does not allow; in double quotes it can be written as \\x.."
    ),
    "a: &a [*a]": "1:4: more than 40 levels of nesting are not read",
    "[" * 5000: "1:41: more than 40 levels of nesting are not read",
    "%YAML 3.0\n---\na: {}": "1:1: found incompatible YAML document (version 1.* is required)",
}

KEYS = {
    "a: {pin: true}\na: {}": ["2: a is given twice, in line 1 and here"],
    "a:\n  idle:\n    level: 1\n    level: 2": ["4: a: idle.level is given twice, in line 3 and here"],
    "? [a]\n: b": ["1: the file: a key must be a word, not empty and not a list"],
    "a: {<<: 3}": ["1: a: '<<' takes a mapping or a list of mappings"],
    "a:\n  max_model_length: 3": ["2: a: unknown key 'max_model_length'; did you mean 'max_model_len'?"],
    "a:\n  tensor-parallel-size: 2": ["2: a: unknown key 'tensor-parallel-size'; did you mean 'tensor_parallel_size'?"],
    "a: {sleep_after: 10m}": ["1: a: unknown key 'sleep_after'; it belongs under idle"],
    "a: {zzz: 1}": ["1: a: unknown key 'zzz'; any other flag of `vllm serve` goes under extra_args"],
    "a: {idle: {slep_after: 1m}}": ["1: a: idle: unknown key 'slep_after'; did you mean 'sleep_after'?"],
    "policy: {reserv: 1GiB}": ["1: policy: unknown key 'reserv'; did you mean 'reserve'?"],
    "balance:\n  qqqqq: 1": ["2: balance: unknown key 'qqqqq'"],
    "models: {}\npolcy: {}": ["2: unknown key 'polcy'; did you mean 'policy'?"],
    "models: {}\nQwen/Qwen3: {}": [
        (
            "2: unknown key 'Qwen/Qwen3'; a model belongs under 'models' when the file has one of "
            "defaults, models, servers, policy, balance, version"
        ),
    ],
    "version: 2": ["1: version: 2 is not known; this vllama reads version 1"],
    "- a": ["the file: ['a'] is not a mapping (key: value)"],
    "models: [a]": ["1: models: ['a'] is not a mapping (key: value)"],
    "a: 0.9": ["1: a: 0.9 is not a mapping (key: value)"],
    "a: {idle: 30m}": ["1: a: idle: '30m' is not a mapping (key: value)"],
    "defaults: {aliases: [x]}": ["1: defaults.aliases: belongs to one model; the defaults are for all"],
    "' a': {}": ["1:  a: ' a' is no name: it begins or ends with a space, or has unprintable characters"],
    "a: !!python/object:os.system x": [
        "1: a: the tag 'tag:yaml.org,2002:python/object:os.system' does not fit here; leave it out"
    ],
    "a: {pin: !!int abc}": ["1: a: pin: 'abc' is no int"],
}

VALUES = {
    "gpu_memory_utilization: 1.5": "gpu_memory_utilization: 1.5 is out of range; above 0, up to 1",
    "gpu_memory_utilization: .nan": "gpu_memory_utilization: '.nan' is not a number",
    "max_model_len: true": "max_model_len: true is not a whole number; write for example 32768, 32k or 32K",
    "max_model_len: 0": "max_model_len: 0 is out of range; at least 1; write for example 32768, 32k or 32K",
    "max_num_seqs: 2.5": "max_num_seqs: 2.5 is not a whole number",
    "max_num_seqs: 1:30": "max_num_seqs: '1:30' is not a whole number",
    "revision: 12": "revision: 12 is read as a number or a truth value; put it in quotes",
    "convert: [a]": "convert: ['a'] is not text",
    "pin: 1": "pin: 1 is neither true nor false",
    "replicas: 0": "replicas: 0 is out of range; 1 to 64",
    "replicas: 2, port: 9000": "replicas: 2 engines cannot share port 9000; leave `port` out, and each finds one",
    "port: 70000": "port: 70000 is out of range; 1 to 65535",
    "memory: lots": "memory: 'lots' is not an amount of memory; write for example 4GiB, 512MiB or 80GB",
    "memory: true": "memory: true is not an amount of memory; write for example 4GiB, 512MiB or 80GB",
    "memory: 0": "memory: 0 is no memory at all",
    "devices: 0": "devices: 0 is not a list of GPU numbers; write for example [0], [0, 1] or auto",
    "devices: []": "devices: [] is not a list of GPU numbers; write for example [0], [0, 1] or auto",
    "devices: [0, 0]": "devices: [0, 0] names a GPU twice",
    "devices: [-1]": "devices: -1 is out of range; 0 to 4095",
    "aliases: x": "aliases: 'x' is not a list of names; write for example [small, fast]",
    "idle: {level: 4}": "idle.level: 4 is not a level; write auto, 1, 2 or 3 (3 stops the engine)",
    "idle: {sleep_after: 1:30}": (
        "idle.sleep_after: '1:30' is not a duration; write for example 30s, 10m, 1h30m, or never"
    ),
    "idle: {stop_after: yes}": ("idle.stop_after: true is not a duration; write for example 30s, 10m, 1h30m, or never"),
    "queue_timeout: never": "queue_timeout: 'never' is not a duration; write for example 30s, 10m, 1h30m",
    "queue_timeout: -1": "queue_timeout: -1: a duration cannot be negative",
    "load_timeout: 0": "load_timeout: 0 is no time at all",
    "max_queue: -1": "max_queue: -1 is out of range; at least 0",
    "on_conflict: evict": "on_conflict: 'evict' is not one of queue, refuse",
    "env: {X: true}": "env.X: true could be written in several ways; put it in quotes",
    "env: {A-B: x}": "env.A-B: 'A-B' is not the name of an environment variable",
    "extra_args: x": "extra_args: 'x' is not a mapping (key: value)",
    "extra_args: {x: []}": "extra_args.x: an empty list is no value; leave the key out",
    "extra_args: {x y: 1}": "extra_args.x y: 'x y' is not the name of a flag",
    "extra_args: {foo-bar: 1, --foo_bar: 2}": "extra_args.--foo_bar: is given twice, spelled differently",
    "max_num_seqs: 1, extra_args: {max-num-seqs: 2}": ("extra_args.max-num-seqs: is given twice: also as max_num_seqs"),
    "extra_args: {max-num-seqs: many}": "extra_args.max-num-seqs: 'many' is not a whole number",
    "extra_args: {lora-modules: a=b}": "extra_args: lora-modules is not taken here: write `lora: {name: /path}`",
    "allowed_media_domains: []": (
        "allowed_media_domains: [] is not a list of hosts; write for example [images.example.org], any or none"
    ),
    "allowed_media_domains: [http://x.org]": (
        "allowed_media_domains: 'http://x.org' is not the whole name of a host; write for example images.example.org"
    ),
    "extra_args: {allowed-media-domains: ['*.org']}": (
        "extra_args.allowed-media-domains: '*.org' is not the whole name of a host; "
        "write for example images.example.org"
    ),
    "lora: {a=b: /x}": "lora: 'a=b': the name of an adapter has no '='",
    "tensor_parallel_size: 2, pipeline_parallel_size: 2, devices: [0, 1]": (
        "devices: lists 2, but tensor_parallel_size 2 x pipeline_parallel_size 2 needs 4 GPUs; "
        "list at least 4, or write auto"
    ),
    "path: '${X}/m'": "path: ${X}: the environment has no X; set it, or write ${X:-default}",
    "path: '${}'": "path: has a '${' that is no reference; write ${NAME} or ${NAME:-default}, or $${ for a plain '${'",
    'path: "a\\0"': "path: has a character that no process can be given (NUL or half a pair)",
    'path: "\\ud800"': "path: has a character that no process can be given (NUL or half a pair)",
}

TOO_FEW = "lists 1, but tensor_parallel_size 2 x pipeline_parallel_size 1 needs 2 GPUs; list at least 2, or write auto"
TOGETHER = {
    "a: {aliases: [b]}\nb: {}": ["1: a: aliases: 'b' is already the name of a model (line 2)"],
    "a: {aliases: [x]}\nb:\n  aliases:\n    - y\n    - x": [
        "5: b: aliases: 'x' is already the name of an alias (line 1)"
    ],
    "a: {aliases: [a]}": ["1: a: aliases: 'a' is already the name of a model (line 1)"],
    "a: {lora: {x: /x}}\nb: {lora: {x: /y}}": ["2: b: lora: 'x' is already the name of an adapter (line 1)"],
    "a: {lora: {b: /x}}\nb: {}": ["1: a: lora: 'b' is already the name of a model (line 2)"],
    "a: {lora: {x: /x}}\nb: {aliases: [x]}": ["2: b: aliases: 'x' is already the name of an adapter (line 1)"],
    "a: {replicas: 3}\na#2: {}": ["2: a#2: 'a#2' is what engine 2 of 'a' is called"],
    "a: {port: 9000}\nb: {port: 9000}": ["2: b: port: 9000 is already the port of 'a'"],
    "defaults: {tensor_parallel_size: 2, devices: [1]}\nmodels:\n  a: {}\n  b: {devices: [0]}": [
        f"1: defaults.devices: {TOO_FEW}",
        f"4: b: devices: {TOO_FEW}",
    ],
    "servers:\n- url: ftp://x\n- max_concurrent_requests: 0\n- {url: 'http://a'}\n- {url: 'http://a/'}\n- x": [
        "2: servers[0].url: 'ftp://x' is not the address of a server; write for example http://gpu-server-1:8081",
        "3: servers[1]: url is missing",
        "3: servers[1].max_concurrent_requests: 0 is out of range; at least 1",
        "5: servers[3].url: 'http://a' is listed twice",
        "6: servers[4]: 'x' is not a mapping (key: value)",
    ],
    "servers:\n- {url: 'http://u:p@a', api_key: 'a b'}": [
        "2: servers[0].url: the address of a server has no name and password in it; write `api_key: ${NAME}` beside it",
        "2: servers[0].api_key: an API key is visible ASCII characters, best given as ${NAME} of the environment",
    ],
    "models: {a: {aliases: [b]}}\nservers:\n- {url: 'http://a', aliases: {b: x, c: x}}\n"
    "- {url: 'http://b', aliases: {c: y}}": [
        "3: servers[0].aliases: 'b' is already a name of a model here",
        "4: servers[1].aliases: 'c' is already the name of 'x'",
    ],
    "servers: x": ["1: servers: 'x' is not a list; write for example [{url: http://gpu-server-1:8081}]"],
    "policy: {ageing: 0, reserve: -1}": [
        "1: policy.reserve: -1 bytes: an amount of memory cannot be negative",
        "1: policy.ageing: 0 is no time at all",
    ],
    "a:\n  pin: maybe\n  zzzz: 1\nb:\n  dtpe: half": [
        "2: a: pin: 'maybe' is neither true nor false",
        "3: a: unknown key 'zzzz'; any other flag of `vllm serve` goes under extra_args",
        "5: b: unknown key 'dtpe'; did you mean 'dtype'?",
    ],
}


def lines(text: str | bytes, **environ: str) -> list[str]:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ManifestInvalid) as raised:
        load_bytes(content, file="models.yaml", environ=environ)
    return str(raised.value).splitlines()


@pytest.mark.parametrize("text", SYNTAX)
def test_text_that_is_no_yaml(text):
    assert lines(text) == [f"models.yaml:{SYNTAX[text]}"]


@pytest.mark.parametrize("text", KEYS | TOGETHER)
def test_keys_and_names(text):
    expected = (KEYS | TOGETHER)[text]
    assert lines(text) == [f"models.yaml:{line}" if line[0].isdigit() else f"models.yaml: {line}" for line in expected]


@pytest.mark.parametrize("text", VALUES)
def test_values_of_a_model(text):
    assert lines(f"Qwen/Qwen3: {{{text}}}") == [f"models.yaml:1: Qwen/Qwen3: {VALUES[text]}"]


@pytest.mark.parametrize("flag", ["host", "--port", "hos", "served_model_name", "tp", "gpu-memory-utilization", "dp"])
def test_flags_that_are_vllamas_own(flag):
    (line,) = lines(f"models:\n  a:\n    extra_args:\n      {flag}: 2")
    assert line.startswith("models.yaml:4: a: extra_args: ")
    assert " is not allowed here: " in line


def test_variables_that_are_vllamas_own():
    (line,) = lines("a:\n  env:\n    CUDA_VISIBLE_DEVICES: 0")
    assert line.startswith("models.yaml:3: a: env: CUDA_VISIBLE_DEVICES is not allowed here: ")


def test_the_servers_environment():
    assert lines("", VLLAMA_UNLOAD_TIMEOUT="soon", VLLAMA_UNLOAD_MODE="7", VLLAMA_DEFAULT_DEVICE="all") == [
        "VLLAMA_DEFAULT_DEVICE: 'all' is not a whole number",
        "VLLAMA_UNLOAD_MODE: '7' is not a level; write auto, 1, 2 or 3 (3 stops the engine)",
        "VLLAMA_UNLOAD_TIMEOUT: 'soon' is not a duration; write for example 30s, 10m, 1h30m, or never",
    ]


def test_a_value_that_could_not_be_read_is_not_complained_about_twice():
    assert lines("a: {devices: ['${X}']}\n") == [
        "models.yaml:1: a: devices[0]: ${X}: the environment has no X; set it, or write ${X:-default}"
    ]


def test_twenty_problems_fill_the_screen():
    printed = lines("\n".join(f"m{number}: {{pin: maybe}}" for number in range(27)))
    assert len(printed) == 21
    assert printed[19] == "models.yaml:20: m19: pin: 'maybe' is neither true nor false"
    assert printed[20] == "and 7 more"


def test_a_problem_says_where_to_a_program_too():
    with pytest.raises(ManifestInvalid) as raised:
        load_bytes(b"models:\n  a:\n    idle: {level: 9}\n", file="f", environ={})
    (problem,) = raised.value.problems
    assert (problem.file, problem.line, problem.path) == ("f", 3, ("models", "a", "idle", "level"))


def test_long_values_are_shortened():
    (line,) = lines("a: {pin: " + "y" * 100_000 + "}")
    assert len(line) < 200


def test_not_utf8():
    assert lines(b"a: {}\nb: \xff\n") == ["models.yaml:2: the file is not UTF-8 text"]


def test_too_large():
    text = "the file has 10485761 bytes; more than 10485760 are not read"
    assert lines(b"#" * ((10 << 20) + 1)) == [f"models.yaml: {text}"]


@pytest.mark.parametrize("link", ["[{}]", "{{<<: [{}]}}"])
def test_billion_laughs(link):
    first = "a0: &a0 {k: v}\n"
    repeats = (link.format(",".join([f"*a{number - 1}"] * 9)) for number in range(1, 10))
    bomb = first + "".join(f"a{number}: &a{number} {body}\n" for number, body in enumerate(repeats, start=1))
    (line,) = lines(bomb)
    assert line.endswith(": more than 50000 values, counting what aliases repeat, are not read")


def test_many_keys():
    (line,) = lines("".join(f"k{number}: v\n" for number in range(100_000)))
    assert line == "models.yaml:25000:9: more than 50000 values, counting what aliases repeat, are not read"


def test_references_cannot_blow_a_value_up():
    (line,) = lines("a: {path: '" + "${X}" * 1000 + "'}", X="x" * 1000)
    assert line == "models.yaml:1: a: path: is longer than 131072 characters once its references are filled in"
