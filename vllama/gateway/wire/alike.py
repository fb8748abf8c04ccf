"""The heads on one connection are nearly always alike: the same bytes, but for the length of the body.

So one that came twice is kept in two parts, and where the next begins and goes on with them it was read already.
"""

from typing import Generic, TypeVar

from vllama.gateway.headers import LENGTH, LENGTH_IN_LOWER_CASE

Read = TypeVar("Read")
_MOST_DIGITS = 18


class Alike(Generic[Read]):
    """`read`: what was understood of them."""

    __slots__ = ("_after", "_after_bytes", "_before", "_before_bytes", "_digits", "read")

    def __init__(self, head: bytes, read: Read) -> None:
        """`head` was found good; it is without the empty line that ends it."""
        before, name, rest = head.partition(LENGTH)
        if not name:
            before, name, rest = head.partition(LENGTH_IN_LOWER_CASE)
        length, line_end, after = rest.partition(b"\r")
        self._before = before + name  # all of it where it says no length, and then no other is like it
        self._after = b"%b%b\r\n\r\n" % (line_end, after)
        self._before_bytes, self._after_bytes, self._digits = len(self._before), len(self._after), len(length)
        self.read = read

    def match(self, data: bytes) -> tuple[int, int] | None:
        """The length that the head of `data` says, and where that head ends; None: it is another one."""
        start, size = self._before_bytes, self._after_bytes
        if data[:start] != self._before:  # takes half as long as `startswith`
            return None
        end = start + self._digits
        if data[end : end + size] != self._after:
            end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
            if end < 0 or data[end : end + size] != self._after:
                return None
            self._digits = end - start
        digits = data[start:end]
        return (int(digits), end + size) if digits.isdigit() else None
