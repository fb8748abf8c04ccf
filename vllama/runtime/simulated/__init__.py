"""Real processes that look like vLLM, on made-up devices: the local runtime with another launcher and device source."""
