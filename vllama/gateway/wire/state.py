"""Where a client's connection is.

IDLE      nothing of a request is there
HEAD      a part of a head is
BODY      the head is whole, the body is not
EXCHANGE  an engine is to answer
TUNNEL    it is a websocket, and no more requests come
APP       the application is to answer
LEAVING   the last answer is written; what still comes is thrown away
"""

import enum


class State(enum.Enum):
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    EXCHANGE = "exchange"
    TUNNEL = "tunnel"
    APP = "app"
    LEAVING = "leaving"
