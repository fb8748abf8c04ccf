"""The log of requests: one line for each, as the other log lines look, and cheap enough for tens of thousands a second.

line        what one request comes to: never a prompt, a key or a query string
log         lines are put together on the event loop, and written all at once a few times a second
outlet      written by a thread, so that a pipe that nobody empties holds up nobody
middleware  the requests that vllama answers itself
"""
