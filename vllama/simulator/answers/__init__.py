"""One file per family of routes: what vLLM answers, key for key and in its order."""
