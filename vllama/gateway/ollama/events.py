"""A stream of server-sent events, cut anywhere -> the data of each event, as soon as it is whole."""

from vllama.domain.units import MIB

LONGEST_BYTES = 16 * MIB


class TooLong(ValueError):
    """An event has no end within LONGEST_BYTES."""


class Events:
    """Bytes are only cut at line ends, so no character is torn. Comments and all fields but `data` are left out."""

    __slots__ = ("_data", "_partial", "_size")

    def __init__(self) -> None:
        self._partial = b""  # of a line
        self._data: list[bytes] = []  # of the present event
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Raises TooLong."""
        found: list[bytes] = []
        *lines, self._partial = (self._partial + piece if self._partial else piece).split(b"\n")
        for line in (line.removesuffix(b"\r") for line in lines):
            if not line:
                if self._data:
                    found.append(b"\n".join(self._data))
                    self._data.clear()
                    self._size = 0
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
        if self._size + len(self._partial) > LONGEST_BYTES:
            raise TooLong
        return found
