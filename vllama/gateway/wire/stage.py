"""How far a request is.

WAITING    for the model to be ready, for a long body to be renamed, for a connection
ASKED      the engine has it and has said nothing
ANSWERING  the head of the answer is passed on
OVER       the grant is given back; nothing happens any more
"""

import enum


class Stage(enum.Enum):
    WAITING = "waiting"
    ASKED = "asked"
    ANSWERING = "answering"
    OVER = "over"
