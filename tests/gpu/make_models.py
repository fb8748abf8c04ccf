"""Models made on the spot, of Qwen3's kind, with nothing but Python: no download, and no torch in this process.

Text is nonsense. The same seed makes the same bytes, so an answer after a wake can be held against one before.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VOCABULARY = 512
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
POSITIONS = 4096
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ONE = b"\x80\x3f"  # 1.0 in bfloat16, low byte first
_BLOCK_BYTES = 1 << 22
# Any byte becomes the high byte of a small number: its sign, and an exponent that makes it 1/128 to 1/32.
_SMALL = bytes(0x3C if byte < 128 else 0xBC for byte in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    hidden: int
    intermediate: int
    layers: int
    heads: int = 16
    kv_heads: int = 8
    head: int = 128

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        wide, narrow = self.heads * self.head, self.kv_heads * self.head
        yield "model.embed_tokens.weight", (VOCABULARY, self.hidden)
        for layer in range(self.layers):
            for name, shape in (
                ("self_attn.q_proj", (wide, self.hidden)), ("self_attn.k_proj", (narrow, self.hidden)),
                ("self_attn.v_proj", (narrow, self.hidden)), ("self_attn.o_proj", (self.hidden, wide)),
                ("self_attn.q_norm", (self.head,)), ("self_attn.k_norm", (self.head,)),
                ("mlp.gate_proj", (self.intermediate, self.hidden)), ("mlp.up_proj", (self.intermediate, self.hidden)),
                ("mlp.down_proj", (self.hidden, self.intermediate)),
                ("input_layernorm", (self.hidden,)), ("post_attention_layernorm", (self.hidden,)),
            ):  # fmt: skip
                yield f"model.layers.{layer}.{name}.weight", shape
        yield "model.norm.weight", (self.hidden,)
        yield "lm_head.weight", (VOCABULARY, self.hidden)

    @property
    def weights_bytes(self) -> int:
        return sum(2 * _count(shape) for _, shape in self.tensors())


LARGE = Shape(hidden=2048, intermediate=6144, layers=28)  # 2.6 GiB
SMALL = Shape(hidden=1024, intermediate=3072, layers=28)  # 0.8 GiB


def make_dummy(directory: Path, shape: Shape) -> Path:
    """Everything but weights, for `--load-format dummy`."""
    directory.mkdir(parents=True)
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": shape.hidden, "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head,
        "vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "rope_theta": 1000000, "rms_norm_eps": 1e-06,
        "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": False, "use_cache": True,
        "initializer_range": 0.02, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    of_tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIALS[2], "pad_token": SPECIALS[0],
        "model_max_length": POSITIONS, "chat_template": TEMPLATE,
    }  # fmt: skip
    contents = {"config": config, "tokenizer_config": of_tokenizer, "tokenizer": _tokenizer()}
    for name, content in contents.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def make_random(directory: Path, shape: Shape, *, seed: int) -> Path:
    """With weights in a file, so that level 2 has something to read again."""
    make_dummy(directory, shape)
    header, end = {}, 0
    for name, size in shape.tensors():
        begin, end = end, end + 2 * _count(size)
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    numbers = random.Random(seed)
    block = bytearray(numbers.randbytes(_BLOCK_BYTES))
    block[1::2] = block[1::2].translate(_SMALL)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, size in shape.tensors():
            start = 2 * numbers.randrange(_BLOCK_BYTES // 2)
            turned = ONE * (_BLOCK_BYTES // 2) if "norm" in name else block[start:] + block[:start]
            for left in range(2 * _count(size), 0, -_BLOCK_BYTES):
                file.write(turned[: min(left, _BLOCK_BYTES)])
    return directory


def _count(size: tuple[int, ...]) -> int:
    count = 1
    for length in size:
        count *= length
    return count


def _tokenizer() -> dict[str, object]:
    """Every byte is a token, and every id has a text."""
    vocabulary = {text: number for number, text in enumerate((*SPECIALS, *_alphabet()))}
    vocabulary |= {f"w{number}": number for number in range(len(vocabulary), VOCABULARY)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "added_tokens": [
            {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for number, text in enumerate(SPECIALS)
        ],
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                  "merges": []},
    }  # fmt: skip


def _alphabet() -> list[str]:
    """The 256 signs by which byte-level tokenizers write bytes: the printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + number) for number in range(256 - len(printable))]
