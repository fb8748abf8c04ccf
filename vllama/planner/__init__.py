"""The pure verbs of vllama: `plan(desired, snapshot, now) -> Plan`. README.md beside this file has the order."""

from vllama.planner.plan import plan

__all__ = ["plan"]
