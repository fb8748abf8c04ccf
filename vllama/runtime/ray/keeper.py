"""On each machine of the cluster: ends the engines whose agent is gone and does not come back in time.

    python -m vllama.runtime.ray.keeper DIRECTORY OWNER GRACE_S

Where Ray is restarted, or the agent crashed, the next agent adopts what runs. Where nobody comes, nobody could ever end
these engines, nor know that they hold the GPUs. The keeper then ends itself, too.
"""

import asyncio
import sys
import time
from pathlib import Path

from vllama.runtime import clock
from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local.recovery import leaders_of
from vllama.runtime.local.spawn import Leader
from vllama.runtime.local.stopping import stop_tree
from vllama.runtime.ray.presence import AGENT, KEEPER, Lock

STOP_WITHIN_S = 10.0
LOOKS = 20  # in a grace


def main(directory: Path, owner: str, grace_s: float) -> None:
    mine = Lock(directory / KEEPER)
    if not mine.take():
        return  # there is one
    agent = Lock(directory / AGENT)
    alone_since: float | None = None
    while True:
        if not agent.is_free():
            alone_since = None
        elif alone_since is None:
            alone_since = clock.now()
        elif clock.now() - alone_since >= grace_s and agent.take():  # an agent that comes now waits until it is done
            break
        time.sleep(min(1.0, grace_s / LOOKS))
    _say(f"No agent for {grace_s:g} s: its engines are ended.")
    asyncio.run(_end_all(owner))
    agent.release()


async def _end_all(owner: str) -> None:
    leaders = await asyncio.to_thread(leaders_of, owner)
    await asyncio.gather(*(_end(leader) for leader in leaders))


async def _end(leader: Leader) -> None:
    leader.watch(lambda: None)
    try:
        await stop_tree(leader, deadline_s=STOP_WITHIN_S, clock=clock.now)
    except (RuntimeFailed, OSError) as error:
        _say(f"The engine of {leader.identity.model} is not ended: {error}")
    else:
        _say(f"The engine of {leader.identity.model} is ended.")


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
