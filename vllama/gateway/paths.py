"""Which requests reach an engine: an exact list, compared with the path as it came over the wire.

Nothing is decoded or tidied up before the comparison, and what is sent to the engine is the entry of the list. So a
doubled slash, a `%2e%2e`, an encoded slash or an upper-case letter cannot make a request mean something else there.
"""

import enum
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from vllama.engine.tasks import CLASSIFIES, COMPARES, EMBEDS, GENERATES, POOLS, TRANSCRIBES


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`needs`: any one of these tasks; None: every model has it. `form`: the body is multipart/form-data, not JSON."""

    needs: frozenset[str] | None = None
    form: bool = False


# Sorted as people look for them, because error messages print it.
ROUTES = {
    b"/v1/chat/completions": Route(needs=GENERATES),
    b"/v1/chat/completions/batch": Route(needs=GENERATES),
    b"/v1/completions": Route(needs=GENERATES),
    b"/v1/responses": Route(needs=GENERATES),
    b"/v1/messages": Route(needs=GENERATES),
    b"/v1/messages/count_tokens": Route(needs=GENERATES),
    b"/v1/embeddings": Route(needs=EMBEDS),
    b"/v2/embed": Route(needs=EMBEDS),
    b"/v1/audio/transcriptions": Route(needs=TRANSCRIBES, form=True),
    b"/v1/audio/translations": Route(needs=TRANSCRIBES, form=True),
    b"/rerank": Route(needs=COMPARES),
    b"/v1/rerank": Route(needs=COMPARES),
    b"/v2/rerank": Route(needs=COMPARES),
    b"/score": Route(needs=COMPARES),
    b"/v1/score": Route(needs=COMPARES),
    b"/classify": Route(needs=CLASSIFIES),
    b"/pooling": Route(needs=POOLS),
    b"/generative_scoring": Route(needs=GENERATES),
    b"/v1/systemone": Route(),
    b"/tokenize": Route(),
    b"/detokenize": Route(),
    b"/invocations": Route(),
}
INFERENCE_PATHS = tuple(ROUTES)
# Ollama's, which become requests to some of the above.
OLLAMA_PATHS = (b"/api/chat", b"/api/generate", b"/api/embed", b"/api/embeddings")
CREATE_RESPONSE = b"/v1/responses"
REALTIME = b"/v1/realtime"
# What is called on a response that was made before. Its name may be the client's own choice.
_RESPONSE = re.compile(rb"/v1/responses/([0-9A-Za-z_][0-9A-Za-z_.-]{0,199})(/cancel)?")

# vLLM's pages about the engine itself. The list only chooses the sentence of the 404.
_MANAGEMENT_PATHS = frozenset(
    b"/" + name
    for name in (
        b"sleep wake_up is_sleeping pause resume is_paused abort_requests release_kv_cache_memory collective_rpc "
        b"reset_prefix_cache reset_mm_cache reset_encoder_cache server_info weight_info get_world_size "
        b"init_weight_transfer_engine shutdown_weight_transfer_engine start_weight_update start_draft_weight_update "
        b"update_weights finish_weight_update update_weight_version weight_checker scale_elastic_ep "
        b"is_scaling_elastic_ep start_profile stop_profile kv_event_sources metrics load version ping "
        b"v1/load_lora_adapter v1/unload_lora_adapter"
    ).split()
)

# Answered to everybody: is there a server, is it well, and the page to look at it.
_OPEN = frozenset((b"/", b"/livez", b"/readyz", b"/health", b"/ui"))
_PAGE = b"/ui/"  # the dashboard's files, which know nothing; what it shows is the admin API's
_ADMIN = ("/admin", "/api/pull", "/instances", "/reload")  # each with all below it


class Need(enum.Enum):
    """What a caller must show where there are API keys."""

    NOTHING = "open to everybody"
    MODELS = "any key"
    ADMIN = "the admin API: it has rules of its own, in guard"


class Way(enum.Enum):
    ENGINE = "an inference request: to an engine"
    OLLAMA = "an inference request in Ollama's words: translated, to an engine"
    RESPONSE = "about a response: to the engine that made it"
    REALTIME = "a websocket: to an engine"
    WRONG_METHOD = "an inference path, but not by its method"
    OURS = "vllama's own to answer, if only with a 404"


def way(method: str, raw_path: bytes) -> Way:
    """`raw_path` as it came over the wire, without the query string."""
    if raw_path in ROUTES:
        found = Way.ENGINE
    elif raw_path in OLLAMA_PATHS:
        found = Way.OLLAMA
    elif raw_path == REALTIME:
        found = Way.REALTIME
    elif _RESPONSE.fullmatch(raw_path):
        found = Way.RESPONSE
    else:
        return Way.OURS
    return found if method == method_of(raw_path) else Way.WRONG_METHOD


def method_of(raw_path: bytes) -> str:
    """The one method that an inference path takes."""
    if raw_path in ROUTES or raw_path in OLLAMA_PATHS:
        return "POST"
    found = _RESPONSE.fullmatch(raw_path)
    return "POST" if found is not None and found[2] else "GET"


def response_id(raw_path: bytes) -> str:
    """Of a path that is Way.RESPONSE."""
    found = _RESPONSE.fullmatch(raw_path)
    if found is None:
        raise AssertionError("not a path about a response")
    return found[1].decode()


def need(raw_path: bytes) -> Need:
    """Of a path that is spelled in any other way than the few exceptions: any key."""
    if raw_path in _OPEN or raw_path.startswith(_PAGE):
        return Need.NOTHING
    return Need.ADMIN if is_admin(raw_path.decode("latin-1")) else Need.MODELS


def is_admin(path: str) -> bool:
    """`path` as the routes compare it."""
    return any(path == one or path.startswith(f"{one}/") for one in _ADMIN)


def is_management(raw_path: bytes) -> bool:
    """Meant for an engine's management, however it is spelled."""
    tidy = posixpath.normpath(b"/" + unquote_to_bytes(raw_path).lower().lstrip(b"/"))
    return tidy in _MANAGEMENT_PATHS
