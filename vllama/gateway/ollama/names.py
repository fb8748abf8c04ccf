"""Which model a client of Ollama means. There every name has a tag, `latest` where none is written."""

import msgspec

from vllama.controller.control import Control, Unresolved
from vllama.domain.spec import ModelSpec
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused
from vllama.gateway.ollama.requests import Named

NO_MODEL = ErrorAnswer(status=400, code="missing_model", message="model is required", param="model")
_LATEST = ":latest"


def find_named(control: Control, name: str) -> tuple[str, ModelSpec]:
    """The name that vllama knows it by, and the model. Raises Refused, in Ollama's words."""
    if not name:
        raise Refused(NO_MODEL)
    known = name
    found = control.resolve(known)
    if isinstance(found, Unresolved) and not found.ambiguous and name.endswith(_LATEST):
        known = name.removesuffix(_LATEST)
        found = control.resolve(known)
    if not isinstance(found, Unresolved):
        return known, found
    message = found.message if found.ambiguous else f"model '{name}' not found"
    raise Refused(ErrorAnswer(status=404, code="model_not_found", message=message, param="model"))


def named_in(body: bytes) -> Named:
    """Whatever its Content-Type says: curl says that it is a form. Raises Refused."""
    try:
        return msgspec.json.decode(body, type=Named)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(errors.not_json(str(error))) from None
