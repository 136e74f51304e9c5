"""What the server sends, as PROTOCOL has it; fields and types that are not known are ignored."""

from __future__ import annotations

from datetime import datetime

import msgspec


class User(msgspec.Struct, frozen=True):
    id: int
    username: str


class Reaction(msgspec.Struct, frozen=True):
    emoji: str
    #: Ids of the users.
    users: tuple[int, ...] = ()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it was at one of its changes."""

    id: int
    room: int
    #: Its place in the room, for ever.
    seq: int
    #: The number of this change in the room's log; of two copies the larger one is the newer.
    rev: int
    user: User
    kind: str = "text"
    #: Empty if it is deleted.
    text: str = ""
    created_at: datetime
    client_id: str | None = None
    #: The id of the message of the same room that this one answers.
    reply_to: int | None = None
    edited_at: datetime | None = None
    deleted: bool = False
    #: Ids of the users that it names.
    mentions: tuple[int, ...] = ()
    reactions: tuple[Reaction, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether this is a later change (an edit, a deletion, a reaction), not the message anew.

        A message that was said and changed while one was away comes once, with its last change.
        """
        return self.rev != self.seq


class Room(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    name: str | None = None
    kind: str = ""
    topic: str = ""
    #: The last number taken in the room's log when this was sent.
    head: int = 0
    members: int = 0


class Limits(msgspec.Struct, frozen=True):
    #: Characters of a message, 0 for no limit.
    text: int = 0
    #: Messages a second, 0 for no limit.
    rate: float = 0


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    protocol: int
    user: User
    session: int = 0
    worker: str = ""
    rooms: tuple[Room, ...] = ()
    #: Ids of the users who are online.
    online: tuple[int, ...] = ()
    limits: Limits = Limits()
    #: Seconds between the server's pings, 0 for none.
    heartbeat: float = 0


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """A message is committed."""

    client_id: str | None = None
    id: int
    room: int
    seq: int
    rev: int
    created_at: datetime


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of history, ascending by seq."""

    messages: tuple[Message, ...]
    has_before: bool = False
    has_after: bool = False
    #: The last number taken in the room's log.
    head: int


class ErrorFrame(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    detail: str = ""
    client_id: str | None = None
    #: Seconds.
    retry_after: float | None = None


class SyncFrame(msgspec.Struct, frozen=True, kw_only=True):
    """Changes after the asked rev, ascending by rev."""

    room: int
    messages: tuple[Message, ...]
    head: int
    more: bool = False


class ResetFrame(msgspec.Struct, frozen=True, kw_only=True):
    room: int
    head: int


class RoomFrame(Room, frozen=True, kw_only=True):
    gone: bool = False


class Goodbye(msgspec.Struct, frozen=True):
    #: Seconds.
    retry_after: float


class Problem(msgspec.Struct, frozen=True):
    """An error over HTTP (RFC 9457)."""

    code: str = ""
    detail: str = ""


Frame = Hello | Message | Ack | ErrorFrame | SyncFrame | ResetFrame | RoomFrame | Goodbye


class _Type(msgspec.Struct):
    type: str = ""


_type = msgspec.json.Decoder(_Type)
_decoders: dict[str, msgspec.json.Decoder[Frame]] = {
    name: msgspec.json.Decoder(shape)
    for name, shape in {
        "hello": Hello,
        "message": Message,
        "ack": Ack,
        "error": ErrorFrame,
        "sync": SyncFrame,
        "reset": ResetFrame,
        "room": RoomFrame,
        "goodbye": Goodbye,
    }.items()
}


def decode(data: bytes) -> Frame | None:
    """The frame; None if its type is not known. Raises msgspec.DecodeError."""
    decoder = _decoders.get(_type.decode(data).type)
    return decoder.decode(data) if decoder else None
