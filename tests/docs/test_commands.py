"""The commands of the documentation are run, page by page, on simulated engines; and what comes out is what it says."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.docs.pages import PAGES, ROOT, RUN, Block, Command, blocks, is_run, name_of, pattern
from tests.waiting import wait_until
from tests.whole.server import QUICK, environment

# A block more here is a block that nobody tries.
NOT_RUN = {
    "README.md": 6, "docs/faults.md": 1, "docs/clients.md": 2, "docs/guides/first-hour.md": 1,
    "docs/guides/nginx.md": 1, "docs/guides/operations.md": 1, "docs/guides/several-machines.md": 5,
}  # fmt: skip
PORTS = (33258, 33259, 8081, 8082, 8080)  # as the pages write them; each run has others


class Shell:
    """One bash for a page: what one block exports or starts is there for the next."""

    def __init__(self, home: Path) -> None:
        self.home, self._count = home, 0
        self.ports = {port: free_port() for port in PORTS}
        commands = home / ".commands"
        commands.mkdir()
        self._write_command(commands / "vllama", f'exec {sys.executable} -m vllama "$@"')
        env = environment(
            **QUICK, HOME=str(home), PATH=f"{commands}:{os.environ['PATH']}", PYTHONPATH=str(ROOT), COLUMNS="160",
            VLLAMA_PORT=str(self.ports[33258]), VLLAMA_SIMULATE="2x24GiB", VLLAMA_HOST="127.0.0.1",
        )  # fmt: skip
        self._bash = subprocess.Popen(
            ["bash", "--norc", "-e", "-o", "pipefail"], stdin=subprocess.PIPE, cwd=home, env=env, text=True,
            start_new_session=True,
        )  # fmt: skip

    def _write_command(self, path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def here(self, text: str) -> str:
        """`text` with the ports of this run."""
        for page, port in self.ports.items():
            text = re.sub(rf"\b{page}\b", str(port), text)
        return text

    def run(self, command: Command) -> str:
        self._count += 1
        out, end = (self.home / ".commands" / f"{self._count}.{what}" for what in ("out", "end"))
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{{\n{self.here(command.text)}\n}} > {out} 2>&1 < /dev/null; touch {end}\n")
        self._bash.stdin.flush()
        wait_until(lambda: end.exists() or self._bash.poll() is not None, deadline_s=90, what=command.text)
        said = out.read_text()
        assert end.exists(), f"$ {command.text}\n{said}\nended with {self._bash.returncode}"
        if re.search(r"vllama (serve|demo)\b.*&\s*$", command.text, re.MULTILINE):
            wait_until(lambda: self._answers(command.text), deadline_s=30, what=f"a server; it said {out.read_text()}")
        return said

    def _answers(self, text: str) -> bool:
        named = re.search(r"--port (\d+)", self.here(text))
        port = int(named[1]) if named else self.ports[33258]
        try:
            return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def write(self, block: Block) -> None:
        path = Path(str(block.file).replace("~", str(self.home)))
        path = path if path.is_absolute() else self.home / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(block.text))

    def close(self) -> None:
        """Servers end as they should, with their engines."""
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        if self._is_there():
            os.killpg(self._bash.pid, signal.SIGTERM)
        self._bash.wait(20)
        wait_until(lambda: not self._is_there(), deadline_s=30, what="all that the page started to end")

    def _is_there(self) -> bool:
        self._bash.poll()
        try:
            os.killpg(self._bash.pid, 0)
        except ProcessLookupError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def shell() -> Iterator[Shell]:
    """Somewhere with a short name, as messages with long ones are broken elsewhere than on the pages."""
    with tempfile.TemporaryDirectory(prefix="v-") as directory:
        running = Shell(Path(directory))
        try:
            yield running
        finally:
            running.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [page for page in PAGES if is_run(page)], ids=name_of)
def test_the_commands_of_a_page_do_what_it_says(page: Path, shell: Shell) -> None:
    for block in blocks(page):
        if block.file is not None:
            shell.write(block)
        elif block.kind in RUN and block.not_run is None:
            for command in block.commands():
                check(command, shell.run(command), shell.here)


def check(command: Command, said: str, here: Callable[[str], str]) -> None:
    lines = iter(said.splitlines())
    for expected in command.says:
        wanted = pattern(here(expected))
        assert any(wanted.search(line) for line in lines), f"$ {command.text}\ndid not say: {expected}\nbut:\n{said}"


def test_what_is_not_run_is_counted() -> None:
    found = Counter(name_of(page) for page in PAGES for block in blocks(page) if block.not_run is not None)
    assert dict(found) == NOT_RUN


def test_commands_stand_in_blocks_that_are_run() -> None:
    """A block without a word would be overlooked."""
    first = re.compile(r"^(\$ )?(vllama|curl|docker|make|export|pip|sudo|systemctl|kubectl|ollama) ", re.MULTILINE)
    for page in PAGES:
        for block in blocks(page):
            if block.kind == "" and block.not_run is None:
                assert not first.search(block.text), f"{name_of(page)}: say bash, console or why it is not run"
