"""A look-alike of `vllm serve`: a real process tree with vLLM 0.32's routes, shapes and manners, and no model.

python -m vllama.simulator.engine serve MODEL --port N [any flag of vllm serve]

What it is told beyond vLLM's flags comes through the environment: `settings.py`, `faults.py`.
"""

import os
import sys

from vllama.simulator.command import parse_command
from vllama.simulator.log import write_in_halves
from vllama.simulator.ranks import run_headless
from vllama.simulator.server import run_server
from vllama.simulator.settings import read_settings


def main() -> int:
    try:
        command = parse_command(sys.argv[1:])
        settings = read_settings(os.environ, model=command.model)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if settings.faults.log_halves:
        write_in_halves()
    return run_headless(command, settings) if command.headless else run_server(command, settings)


if __name__ == "__main__":
    sys.exit(main())
