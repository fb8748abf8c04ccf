"""The pure nouns of vllama: no IO, no clock, no log, no randomness.

units      bytes and durations, as people write and read them
spec       what models.yaml declares of a model, and the policy
replicas   several engines of one model, each under a name of its own
demand     why a model is wanted now; what an operator asked for
desired    the desired state: specs, demand, overrides
observed   what was seen: devices, engines, operations under way; unknown is a value
action     Start | Sleep | Wake | Stop
reason     why, as a closed set with a sentence each
decision   one Decision per model, and the Plan of them all
status     phases for people, derived and never an input
"""
