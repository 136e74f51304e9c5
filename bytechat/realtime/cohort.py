"""A few connections of the worker, which are written to together: the unit of the fan-out."""

from __future__ import annotations

from collections import deque

from .connection import Connection

#: Connections of a cohort. A frame that comes during a visit waits for about two milliseconds more,
#: if all of them are written to; and each room costs a visit a microsecond, for all of them.
COHORT = 250

#: Whispers that may wait for a cohort's turn. The oldest are dropped first: they say the least.
WHISPERS_MAX = 256


class Cohort:
    """What some connections wait for; who they are in a room is kept in their Place there.

    Not locked: the hub's lock guards it.
    """

    __slots__ = ("news", "size", "whispers")

    def __init__(self) -> None:
        self.size = 0  # connections
        #: Rooms of which they are owed something, in their turn.
        self.news: dict[int, None] = {}
        #: Frames without a number, each with those who are to be given it.
        self.whispers: deque[tuple[bytes, list[Connection]]] = deque(maxlen=WHISPERS_MAX)

    @property
    def full(self) -> bool:
        return self.size >= COHORT


class Place:
    """Those of a cohort who are in one room; ``rev`` is up to where they were given everything."""

    __slots__ = ("members", "rev")

    def __init__(self, rev: int) -> None:
        self.rev = rev
        self.members: set[Connection] = set()
