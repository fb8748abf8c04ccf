"""OpenAI endpoints that somebody else runs, and that requests are only routed to.

health   whether one is well, by what it answered to probes and to requests; its circuit breaker
server   one of them, and what is known of it
fleet    all of them: which gets the next request, and who waits for one
keeper   asks them for their models, their health and their load
status   how they are, for people and programs
"""
