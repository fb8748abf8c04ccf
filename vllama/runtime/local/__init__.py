"""Engines as processes of this machine.

identity   the tag that every process of an engine carries in its environment
proc       what /proc says: tagged processes, sessions, who listens on a port
signals    signals that cannot hit a reused pid
ports      a port that was free a moment ago
spawn      one engine process: own session, output to a file, exit watched by pidfd
stopping   SIGTERM repeated, SIGKILL, and the memory seen back
devices    the interface of whatever tells memory; nvml and host implement it
runtime    the Runtime that holds them together
"""
