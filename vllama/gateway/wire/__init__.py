"""The data path: one port, on which an inference request is passed to an engine and the rest goes to the application.

uvicorn has the sockets, the signals and the lifespan; `server` gives it a protocol class (`uvicorn.Config(http=...)`).

    client -- connection --+-- exchange -- engine (pool) -- an engine
                           +-- delegate -- uvicorn's own protocol -- the FastAPI application

server      what uvicorn is given
connection  one client: its requests one after the other, keep-alive, pipelining, deadlines, the end
heads       where the head of a request ends; alike: and when it need not be read again
request     the head of a request, read strictly; body: the rest of it
uploads     how much all bodies hold together while they come in
entry       whether it is let in
exchange    one inference request: the model, the grant, the engine, the answer, and the grant given back once
passing     how a request is to come to an engine or a server; attempt: how it goes at a server, and who is asked next
later       what it waits for, in a task of its own
early       an answer that begins before its engine's, for the client of a stream that asked for signs of life
engine      one connection to an engine: a request out, its answer back; pool: the ones that wait
tunnel      one websocket of /v1/realtime: the model, the grant, frames both ways
            realtime: its events; websocket: its frames; engine_socket: its other end
making      a response on its way back, so that it is known who made it; background: kept awake for those that go on
answer      the head of an answer, read strictly; framing: where a body ends
delegate    whole requests that are vllama's own to answer
shared, limits, watch, stamp: what all of them share; how much and how long; deadlines; Date and Server

Three things hold everywhere. Bytes of an answer pass as they come, with their chunks, and nothing passes that was not
seen to be framed as HTTP has it. Whoever is slow pauses whoever is fast (`pause_writing` -> `pause_reading`), so a
stream holds a few hundred KiB at most. And a client that goes takes its request along at once: out of the queue, or by
closing the connection to the engine.
"""
