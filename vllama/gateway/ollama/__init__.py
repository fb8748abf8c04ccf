"""Ollama's API, for clients that speak no other: requests become OpenAI's, answers become Ollama's.

Pure, bytes and values:
requests   what a client may send, as types
messages   a conversation with its images and tool calls, as OpenAI has it
options    sampling options, `format` and `think`, as vLLM has them
ask        a whole request -> what an engine is asked, or that a model is only to be loaded or let go
events     a stream of events, cut anywhere -> the data of each
chunks     what an engine says in such an event, as types
lines      what an engine said -> Ollama's lines, its last one with counts and durations
listing    models as /api/tags, /api/ps and /api/show tell them
names      which model is meant, `:latest` included

At the rim:
exchange   one such request on the data path: what `wire.connection` holds
interpreter  stands between a connection to an engine and its exchange, and translates what comes
routes     what vllama answers itself: the lists, and clear words for what it does not do
files      what the models' files tell, kept for those lists
pull_route POST /api/pull, counted and logged
pull       a download from the hub, told as it goes
"""
