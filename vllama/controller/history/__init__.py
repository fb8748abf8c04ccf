"""What became of every model and what was decided about it: bounded, in memory, and on disk where that takes it."""

from vllama.controller.history.history import History
from vllama.controller.history.journal import Journal
from vllama.controller.history.records import Decided, Mark, PhaseChange
from vllama.controller.history.spans import PhaseSpan

__all__ = ["Decided", "History", "Journal", "Mark", "PhaseChange", "PhaseSpan"]
