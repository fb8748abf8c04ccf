"""Which requests reach an engine: an exact list, compared with the path as it came over the wire.

Nothing is decoded or tidied up before the comparison, and what is sent to the engine is the entry of the list. So a
doubled slash, a `%2e%2e`, an encoded slash or an upper-case letter cannot make a request mean something else there.
"""

import enum
import posixpath
from urllib.parse import unquote_to_bytes

# Sorted as people look for them, because error messages print it.
INFERENCE_PATHS = (
    b"/v1/chat/completions",
    b"/v1/completions",
    b"/v1/responses",
    b"/v1/messages",
    b"/v1/messages/count_tokens",
    b"/v1/embeddings",
    b"/rerank",
    b"/v1/rerank",
    b"/v2/rerank",
    b"/score",
    b"/v1/score",
    b"/classify",
    b"/pooling",
    b"/tokenize",
    b"/detokenize",
)

# vLLM's pages about the engine itself. The list only chooses the sentence of the 404.
_MANAGEMENT_PATHS = frozenset(
    b"/" + name
    for name in (
        b"sleep wake_up is_sleeping pause resume is_paused abort_requests release_kv_cache_memory collective_rpc "
        b"reset_prefix_cache reset_mm_cache reset_encoder_cache server_info weight_info get_world_size "
        b"init_weight_transfer_engine shutdown_weight_transfer_engine start_weight_update start_draft_weight_update "
        b"update_weights finish_weight_update update_weight_version weight_checker scale_elastic_ep "
        b"is_scaling_elastic_ep start_profile stop_profile kv_event_sources metrics load version ping invocations "
        b"v1/load_lora_adapter v1/unload_lora_adapter"
    ).split()
)

_INFERENCE = frozenset(INFERENCE_PATHS)


class Way(enum.Enum):
    ENGINE = "an inference request: to an engine"
    WRONG_METHOD = "an inference path, but not POST"
    OURS = "vllama's own to answer, if only with a 404"


def way(method: str, raw_path: bytes) -> Way:
    """`raw_path` as it came over the wire, without the query string."""
    if raw_path not in _INFERENCE:
        return Way.OURS
    return Way.ENGINE if method == "POST" else Way.WRONG_METHOD


def is_management(raw_path: bytes) -> bool:
    """Meant for an engine's management, however it is spelled."""
    tidy = posixpath.normpath(b"/" + unquote_to_bytes(raw_path).lower().lstrip(b"/"))
    return tidy in _MANAGEMENT_PATHS
