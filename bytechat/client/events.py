"""What a program is told, in the order in which it happened."""

from __future__ import annotations

import msgspec

from .shapes import Hello, Message, Room


class Reset(msgspec.Struct, frozen=True):
    """Too much was missed: forget what you keep of this room, and take these messages instead.

    They are the room's newest page, ascending by seq. The changes that follow start after
    ``head``; some of them may be in ``messages`` already, with the same rev.
    """

    room: int
    head: int
    messages: tuple[Message, ...] = ()


class RoomChanged(msgspec.Struct, frozen=True):
    """I joined this room, or it changed; with ``gone`` I am not in it any more."""

    room: Room
    gone: bool = False


class Connected(msgspec.Struct, frozen=True):
    """The server has said hello; what was missed follows."""

    hello: Hello


class Disconnected(msgspec.Struct, frozen=True):
    """The connection has ended, or could not be made; the next try is in ``wait`` seconds."""

    reason: str
    #: The close code, or the status of an HTTP answer; None if there was neither.
    code: int | None
    wait: float


Event = Message | Reset | RoomChanged | Connected | Disconnected
