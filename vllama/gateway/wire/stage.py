"""How far a request is: see `exchange`."""

import enum


class Stage(enum.Enum):
    WAITING = "waiting"
    ASKED = "asked"
    ANSWERING = "answering"
    OVER = "over"
