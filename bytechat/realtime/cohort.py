"""A few connections of the worker, which are written to together: the unit of the fan-out."""

from __future__ import annotations

from .connection import Connection

#: Connections of a cohort. A frame that comes during a visit waits for about two milliseconds more,
#: if all of them are written to; and each room costs a visit a microsecond, for all of them.
COHORT = 250

#: Whispers that may wait for a cohort's turn before those that can be missed are dropped.
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
        self.whispers: list[tuple[bytes, list[Connection]]] = []

    def whisper(self, frame: bytes, members: list[Connection], *, droppable: bool) -> None:
        """Add a frame without a number; one that can be missed is dropped if too many wait."""
        if not droppable or len(self.whispers) < WHISPERS_MAX:
            self.whispers.append((frame, members))

    @property
    def full(self) -> bool:
        return self.size >= COHORT


class Place:
    """Those of a cohort who are in one room; ``rev`` is up to where they were given everything."""

    __slots__ = ("members", "rev")

    def __init__(self, rev: int) -> None:
        self.rev = rev
        self.members: set[Connection] = set()
