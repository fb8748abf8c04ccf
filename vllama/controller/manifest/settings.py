"""vLLM's settings that models.yaml knows by name. Any other `vllm serve` flag goes under `extra_args`.

Names, meanings and defaults are vLLM's; unset means that vLLM decides.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator

from vllama.controller.manifest import amounts, shapes, values
from vllama.controller.manifest.shapes import shape
from vllama.domain.spec import Setting


def unless_null(read: Callable[[Any], Any]) -> PlainValidator:
    """A null unsets a key, whatever lies below it."""
    return PlainValidator(lambda value: None if value is None else read(value))


Switch = Annotated[bool | None, unless_null(values.switch), shape(*shapes.SWITCH)]
Text = Annotated[str | None, unless_null(values.text), shape(shapes.TEXT)]
Count = Annotated[int | None, unless_null(values.whole(1)), shape(*shapes.whole(1))]
CountOrNone = Annotated[int | None, unless_null(values.whole(0)), shape(*shapes.whole(0))]
Tokens = Annotated[int | None, unless_null(amounts.tokens), shape(*shapes.TOKENS)]
Amount = Annotated[int | None, unless_null(amounts.amount), shape(*shapes.AMOUNT)]
Gigabytes = Annotated[float | None, unless_null(values.number(0)), shape(*shapes.number(0))]
Share = Annotated[float | None, unless_null(values.number(0, 1, above=True)), shape(*shapes.number(0, 1, above=True))]
AnySetting = Annotated[Setting | None, unless_null(values.setting), shape(*shapes.SETTING)]
MediaDomains = Annotated[Setting | None, unless_null(values.media_domains), shape(*shapes.HOSTS)]


class VllmSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    # the model and its files
    runner: Text = None
    convert: Text = None
    dtype: Text = None
    quantization: Text = None
    load_format: Text = None
    model_impl: Text = None
    revision: Text = None
    code_revision: Text = None
    config_format: Text = None
    hf_config_path: Text = None
    hf_overrides: AnySetting = None
    trust_remote_code: Switch = None
    tokenizer: Text = None
    tokenizer_mode: Text = None
    tokenizer_revision: Text = None
    skip_tokenizer_init: Switch = None
    generation_config: Text = None
    override_generation_config: AnySetting = None
    pooler_config: AnySetting = None
    model_loader_extra_config: AnySetting = None
    download_dir: Text = None
    ignore_patterns: AnySetting = None
    seed: CountOrNone = None

    # how long, how many
    max_model_len: Tokens = None
    max_num_seqs: Count = None
    max_num_batched_tokens: Tokens = None
    max_logprobs: Annotated[int | None, unless_null(values.whole(-1)), shape(*shapes.whole(-1))] = None

    # memory
    gpu_memory_utilization: Share = None
    kv_cache_memory_bytes: Amount = None
    kv_cache_dtype: Text = None
    calculate_kv_scales: Switch = None
    num_gpu_blocks_override: Count = None
    block_size: Count = None
    swap_space: Gigabytes = None
    cpu_offload_gb: Gigabytes = None
    enable_prefix_caching: Switch = None
    prefix_caching_hash_algo: Text = None
    disable_sliding_window: Switch = None

    # how it computes
    tensor_parallel_size: Count = None
    pipeline_parallel_size: Count = None
    enable_expert_parallel: Switch = None
    distributed_executor_backend: Text = None
    disable_custom_all_reduce: Switch = None
    attention_backend: Text = None
    enforce_eager: Switch = None
    compilation_config: AnySetting = None
    enable_chunked_prefill: Switch = None
    async_scheduling: Switch = None
    scheduling_policy: Text = None
    speculative_config: AnySetting = None
    kv_transfer_config: AnySetting = None
    additional_config: AnySetting = None

    # images, sound, video
    limit_mm_per_prompt: AnySetting = None
    mm_processor_kwargs: AnySetting = None
    mm_processor_cache_gb: Gigabytes = None
    media_io_kwargs: AnySetting = None
    allowed_local_media_path: Text = None
    allowed_media_domains: MediaDomains = None  # unset: none at all

    # adapters
    enable_lora: Switch = None
    max_loras: Count = None
    max_cpu_loras: Count = None
    max_lora_rank: Count = None

    # what clients see
    chat_template: Text = None
    chat_template_content_format: Text = None
    response_role: Text = None
    reasoning_parser: Text = None
    enable_auto_tool_choice: Switch = None
    tool_call_parser: Text = None
    tool_parser_plugin: Text = None
    structured_outputs_config: AnySetting = None


SETTINGS = frozenset(VllmSettings.model_fields)
