import asyncio
import secrets

import uvloop

from tests.gateway.fuzz import fuzz


def test_ten_thousand_malformed_requests() -> None:
    seed = secrets.randbelow(1_000_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(fuzz(count=10_000, seed=seed))
    assert not tally.wrong, f"seed {seed}: " + "\n".join(tally.wrong[:5])
    assert tally.sent == 10_000
    assert {200, 400, 404, 408} <= set(tally.answered), f"seed {seed}: {tally.answered}"
