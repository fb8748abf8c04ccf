"""What became of every model and what was decided about it: bounded, in memory, and on disk where that takes it."""

from vllama.controller.history.evidence import Kept
from vllama.controller.history.history import Explained, History
from vllama.controller.history.journal import Journal
from vllama.controller.history.records import Decided, Decisions, Mark, PhaseChange
from vllama.controller.history.spans import PhaseSpan

__all__ = ["Decided", "Decisions", "Explained", "History", "Journal", "Kept", "Mark", "PhaseChange", "PhaseSpan"]
