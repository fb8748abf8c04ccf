"""The heads on one connection are nearly always alike: the same bytes, but for the length of the body.

So one that came twice is kept in two parts, and where the next begins and goes on with them it was read already.
"""

from typing import Generic, TypeVar

from vllama.gateway.headers import LENGTH, LENGTH_IN_LOWER_CASE

Read = TypeVar("Read")
_MOST_DIGITS = 18


class Alike(Generic[Read]):
    """`read`: what was understood of them. `end`: where the head ends that matched last."""

    __slots__ = ("_after", "_at_after", "_at_before", "_at_digits", "_before", "end", "read")

    def __init__(self, head: bytes, read: Read) -> None:
        """`head` was found good; it is without the empty line that ends it."""
        before, name, rest = head.partition(LENGTH)
        if not name:
            before, name, rest = head.partition(LENGTH_IN_LOWER_CASE)
        length, line_end, after = rest.partition(b"\r")
        self._before = before + name  # all of it where it says no length, and then no other is like it
        self._after = b"%b%b\r\n\r\n" % (line_end, after)
        self._at_before = slice(len(self._before))
        self._expect(len(length))
        self.read = read

    def match(self, data: bytes) -> int:
        """The length that the head of `data` says; -1: it is another head."""
        if data[self._at_before] != self._before:  # takes half as long as `startswith`
            return -1
        if data[self._at_after] != self._after and not self._fits(data):
            return -1
        digits = data[self._at_digits]
        return int(digits) if digits.isdigit() else -1

    def _fits(self, data: bytes) -> bool:
        """With another number of digits, which is expected from now on."""
        start = self._at_before.stop
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        if end < 0 or data[end : end + len(self._after)] != self._after:
            return False
        self._expect(end - start)
        return True

    def _expect(self, digits: int) -> None:
        start = self._at_before.stop
        self.end = start + digits + len(self._after)
        self._at_digits = slice(start, start + digits)
        self._at_after = slice(start + digits, self.end)
