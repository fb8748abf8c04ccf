"""POST /tokenize and /detokenize."""

from vllama.simulator.server_state import ServerState
from vllama.simulator.text import detokenize, render_chat, tokenize
from vllama.simulator.web import Answer, Request, answer_json, read_json, required


async def tokenize_prompt(request: Request, state: ServerState) -> Answer:
    body = read_json(request)
    state.check_model(body.get("model"), generates=True)
    messages = body.get("messages")
    tokens = tokenize(required(body, "prompt") if messages is None else render_chat(messages))
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
    state.check_model(body.get("model"), generates=True)
    return answer_json({"prompt": detokenize(required(body, "tokens"))})
