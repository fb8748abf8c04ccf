"""POST /tokenize and /detokenize."""

from vllama.simulator.answers.generation import render_messages
from vllama.simulator.server_state import ServerState
from vllama.simulator.text import detokenize, tokenize
from vllama.simulator.web import Answer, Request, answer_json, missing, read_json, required


async def tokenize_prompt(request: Request, state: ServerState) -> Answer:
    body = read_json(request)
    if body.get("prompt") is None and body.get("messages") is None:
        raise missing(body, "prompt", "messages")
    state.check_model(body.get("model"), generates=True)
    messages = body.get("messages")
    tokens = tokenize(body["prompt"] if messages is None else render_messages(messages))
    pieces = [detokenize([token]) for token in tokens] if body.get("return_token_strs") else None
    return answer_json(
        {
            "count": len(tokens),
            "max_model_len": state.max_model_len,
            "tokens": tokens,
            "token_strs": pieces,
        }
    )


async def detokenize_tokens(request: Request, state: ServerState) -> Answer:
    body = read_json(request)
    tokens = required(body, "tokens")
    state.check_model(body.get("model"), generates=True)
    return answer_json({"prompt": detokenize(tokens)})
