"""Make tiny random-weight models in the layout of the Hugging Face cache, without the network.

    python make_tiny_models.py HF_HOME

Runs under the Python that has vLLM (needs torch, transformers, tokenizers); takes a few seconds, 1 MB on disk.

    tiny/chat, tiny/chat-two   Qwen3ForCausalLM: 2 layers, hidden 64, 512 tokens, bf16, 4,096 positions; 512 bytes of
                               KV cache per token. Text is readable ASCII, and the end token is never likely: a
                               generation ends at max_tokens or at a stop string.
    tiny/embed                 BertModel: vectors of 64 numbers, 512 positions
    tiny/rerank                BertForSequenceClassification with one label, 512 positions
"""

import hashlib
import shutil
import string
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 512
CHAT_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BERT_SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level(specials: list[str]) -> Tokenizer:
    """Exactly 512 tokens: the specials, every byte, and pairs of letters for the rest, so that each id has a text."""
    tokens = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pairs = [(a, b) for a in string.ascii_lowercase for b in string.ascii_lowercase][: VOCABULARY - len(tokens)]
    tokens += [a + b for a, b in pairs]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return tokenizer


def chat_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(CHAT_SPECIALS),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
    )


def bert_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = byte_level(BERT_SPECIALS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", BERT_SPECIALS.index("[CLS]")), ("[SEP]", BERT_SPECIALS.index("[SEP]"))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def fill(model: PreTrainedModel, seed: int) -> None:
    """Uniform weights from random integers: unlike a normal distribution they are the same on every CPU."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if "norm" in name.lower():
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            numbers = torch.randint(-(2**15), 2**15, weight.shape, generator=generator).float() / 2**15
            # Sharp attention and a wide last layer: else all texts get nearly the same vector and score.
            sharp = any(part in name for part in ("query", "key", "classifier"))
            weight.copy_(numbers if sharp else numbers / 4)


def chat(seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = chat_tokenizer()
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    fill(model, seed)
    readable = torch.tensor([printable(tokenizer, token_id) for token_id in range(VOCABULARY)])
    with torch.no_grad():
        # Wide logits for readable tokens and zero for all others (the end token too): even at temperature 1 only the
        # former are drawn, so that texts are plain ASCII and of the length that was asked for.
        model.lm_head.weight.mul_(8.0)
        model.lm_head.weight[~readable] = 0.0
    return model.to(torch.bfloat16), tokenizer


def printable(tokenizer: PreTrainedTokenizerFast, token_id: int) -> bool:
    text = tokenizer.decode([token_id])
    return text not in CHAT_SPECIALS and text.isascii() and text.isprintable()


def bert(kind: type[PreTrainedModel], seed: int, **extra: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = bert_tokenizer()
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        **extra,
    )
    model = kind(config)
    fill(model, seed)
    return model, tokenizer


def put_in_cache(hub: Path, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Lay the files out as a downloaded model: refs/main, blobs/SHA256, snapshots/COMMIT/FILE -> ../../blobs/SHA256."""
    home = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=hub))
    raw = home / "raw"
    model.save_pretrained(raw)
    tokenizer.save_pretrained(raw)
    blobs = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(raw.iterdir())}
    commit = hashlib.sha1(repr(sorted(blobs.items())).encode(), usedforsecurity=False).hexdigest()

    snapshot = home / "snapshots" / commit
    for directory in (snapshot, home / "blobs", home / "refs"):
        directory.mkdir(parents=True)
    for file_name, digest in blobs.items():
        (raw / file_name).replace(home / "blobs" / digest)
        (snapshot / file_name).symlink_to(Path("../../blobs") / digest)
    raw.rmdir()
    (home / "refs" / "main").write_text(commit)

    home.chmod(0o755)  # mkdtemp made it private
    final = hub / f"models--tiny--{name}"
    shutil.rmtree(final, ignore_errors=True)
    return home.rename(final)


def main(hf_home: Path) -> None:
    hub = hf_home / "hub"
    hub.mkdir(parents=True, exist_ok=True)
    made = {
        "chat": chat(seed=1),
        "chat-two": chat(seed=2),
        "embed": bert(BertModel, seed=3),
        "rerank": bert(BertForSequenceClassification, seed=4, num_labels=1),
    }
    for name, (model, tokenizer) in made.items():
        print(put_in_cache(hub, name, model, tokenizer))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_tiny_models.py HF_HOME")
    main(Path(sys.argv[1]))
