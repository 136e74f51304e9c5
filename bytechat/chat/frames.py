"""The frames of the socket, both ways, as PROTOCOL.md has them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from ..api import invalid
from ..auth.schemas import Account
from ..errors import ApiError, Invalid, MalformedJson, UnknownType
from ..realtime.framing import text_frame
from .schemas import Changes, ClientId, Id, Message, Room, Seq

RoomRef = Id | Annotated[str, Meta(max_length=64)]


class Send(msgspec.Struct, tag="send", forbid_unknown_fields=True):
    room: RoomRef
    text: str
    client_id: ClientId
    reply_to: Id | None = None


class Ping(msgspec.Struct, tag="ping", forbid_unknown_fields=True):
    client_id: ClientId | None = None


class Sync(msgspec.Struct, tag="sync", forbid_unknown_fields=True):
    """Ask for what changed in a room after a rev."""

    room: RoomRef
    since: Seq


class WriteTyping(msgspec.Struct, tag="typing", forbid_unknown_fields=True):
    """Say that something is being written."""

    room: RoomRef


ClientFrame = Send | Ping | Sync | WriteTyping


class Limits(msgspec.Struct):
    #: Characters of a message, 0 for no limit.
    text: int
    #: Messages a second, 0 for no limit.
    rate: float


class Hello(msgspec.Struct, tag="hello"):
    protocol: int
    user: Account
    #: Where the account is signed in (the session's id), 0 for a guest.
    session: int
    worker: str
    rooms: list[Room]
    online: list[int]
    limits: Limits
    #: Seconds between the server's pings.
    heartbeat: float


class MessageFrame(Message, tag="message", frozen=True, omit_defaults=True):
    """A message that is new or has changed."""


class Ack(msgspec.Struct, tag="ack", omit_defaults=True, kw_only=True):
    """Committed. A repeated client_id gets the first one's."""

    client_id: str | None = None
    id: int
    room: int
    seq: int
    rev: int
    created_at: datetime


class Error(msgspec.Struct, tag="error", omit_defaults=True):
    """This frame was refused; the socket stays open."""

    code: str
    detail: str
    client_id: str | None = None
    retry_after: int | None = None


class SyncPage(Changes, tag="sync", kw_only=True):
    """What changed in a room after the rev that was asked for."""

    room: int


class Reset(msgspec.Struct, tag="reset"):
    """Too much has changed to send it: drop what is known of the room, and load it anew."""

    room: int
    head: int


class Pong(msgspec.Struct, tag="pong", omit_defaults=True):
    client_id: str | None = None


class Typing(msgspec.Struct, tag="typing"):
    """Somebody is writing something. There is no frame for the end of it: it is over in seconds."""

    room: int
    user: Account


class Presence(msgspec.Struct, tag="presence"):
    """Somebody who shares a room with the reader has come, or gone."""

    user: Account
    online: bool


class Goodbye(msgspec.Struct, tag="goodbye"):
    #: Seconds to wait before reconnecting, another for each socket.
    retry_after: float


ServerFrame = (
    Hello | MessageFrame | Ack | Error | SyncPage | Reset | Pong | Typing | Presence | Goodbye
)


class _AnyFrame(msgspec.Struct):
    """What can be told of a frame that was refused."""

    type: str | msgspec.UnsetType = msgspec.UNSET
    client_id: ClientId | None = None


_decoder = msgspec.json.Decoder(ClientFrame)
_lenient_decoder = msgspec.json.Decoder(_AnyFrame)
_encoder = msgspec.json.Encoder()

_KNOWN_TYPES = frozenset({"send", "ping", "sync", "typing"})


class Refused(Exception):
    """A frame cannot be read; ``client_id`` is the frame's, if it had a good one."""

    def __init__(self, error: ApiError, client_id: str | None) -> None:
        super().__init__(error.detail)
        self.error = error
        self.client_id = client_id


def decode(text: str) -> ClientFrame:
    """The frame that a client sent. Raises Refused."""
    try:
        frame: ClientFrame = _decoder.decode(text)
        return frame
    except msgspec.ValidationError as error:
        reason: ApiError = invalid(error)
    except (msgspec.DecodeError, RecursionError):
        reason = MalformedJson()
    try:
        seen = _lenient_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise Refused(reason, None) from None
    if isinstance(reason, Invalid) and isinstance(seen.type, str) and seen.type not in _KNOWN_TYPES:
        reason = UnknownType()
    raise Refused(reason, seen.client_id)


def ack(message: Message, client_id: str | None) -> Ack:
    """The sender's receipt; ``client_id`` is what they call it."""
    return Ack(
        client_id=client_id,
        id=message.id,
        room=message.room,
        seq=message.seq,
        rev=message.rev,
        created_at=message.created_at,
    )


def payload(frame: ServerFrame) -> bytes:
    """The frame as JSON."""
    return _encoder.encode(frame)


def encode(frame: ServerFrame) -> bytes:
    """The frame as bytes for the wire."""
    return text_frame(payload(frame))
