"""Engines that cannot be started."""

import os
import subprocess
import sys

import pytest

NO_MORE_PROCESSES = """
import os, resource, sys, tempfile
from pathlib import Path
from vllama.runtime.base import NoProcess
from vllama.runtime.local.identity import Identity
from vllama.runtime.local.spawn import spawn

os.setuid(54321)  # of a user who has no other process
log = Path(tempfile.mkdtemp()) / "log"
identity = Identity(owner="o", engine_id="e", model="org/A", spec_hash="h", node="n", devices=(0,), memory_bytes=1,
                    port=1, log=str(log), log_offset=0)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1000))
try:
    spawn(identity, ("/bin/true",), {}, None)
except NoProcess as error:
    print(error)
resource.setrlimit(resource.RLIMIT_NPROC, (1000, 1000))
print(spawn(identity, ("/bin/sleep", "0.1"), {}, None).popen.wait())
log.unlink()
log.parent.rmdir()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="takes root, to become somebody else")
def test_a_fork_that_fails_is_told_in_a_sentence_and_works_again_later():
    done = subprocess.run([sys.executable, "-c", NO_MORE_PROCESSES], capture_output=True, text=True, check=False)
    told, works = done.stdout.splitlines()
    assert told.startswith(
        "Cannot start the engine of org/A: the machine starts no further process (Resource temporarily unavailable). "
    )
    assert works == "0"
    assert "Traceback" not in done.stderr
