"""What vLLM calls tasks, as its log lists them, and which of them the routes of its API need: any one of a set."""

GENERATES = frozenset({"generate"})
EMBEDS = frozenset({"embed"})
CLASSIFIES = frozenset({"classify"})
COMPARES = frozenset({"embed", "token_embed", "classify"})  # rerank and score; of classifiers those with one label
POOLS = frozenset({"embed", "token_embed", "classify", "token_classify", "embed&token_classify", "plugin"})
TRANSCRIBES = frozenset({"transcription"})
LISTENS = frozenset({"realtime"})
