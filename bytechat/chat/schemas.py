"""What rooms and messages look like, over HTTP and in frames alike."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from ..api import BIGINT_MAX
from ..auth.schemas import Account

PAGE_MAX = 200
CHANGES_MAX = 500

CLIENT_ID_MAX = 64

#: A NUL is refused: PostgreSQL cannot store it, and nobody types it.
ClientId = Annotated[str, Meta(min_length=1, max_length=CLIENT_ID_MAX, pattern=r"^[^\x00]*$")]

Id = Annotated[int, Meta(ge=1, le=BIGINT_MAX)]
Seq = Annotated[int, Meta(ge=0, le=BIGINT_MAX)]


class Room(msgspec.Struct):
    id: int
    name: str | None
    kind: str
    topic: str
    #: The last number taken in the room's log.
    head: int
    members: int


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    id: int
    room: int
    #: Its place in the room, for ever.
    seq: int
    #: The number of its latest change.
    rev: int
    user: Account
    kind: str
    text: str
    created_at: datetime
    client_id: str | None = None
    #: The id of the message of the same room that this one answers.
    reply_to: int | None = None


class NewMessage(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    client_id: ClientId | None = None
    reply_to: Id | None = None


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 50
    before: Seq | None = None
    after: Seq | None = None
    around: Seq | None = None


class History(msgspec.Struct):
    """A page of messages, ascending by seq."""

    messages: list[Message]
    has_before: bool
    has_after: bool
    head: int


class ChangesQuery(msgspec.Struct, forbid_unknown_fields=True):
    since: Seq
    limit: Annotated[int, Meta(ge=1, le=CHANGES_MAX)] = 200


class Changes(msgspec.Struct):
    """Messages that are new or have changed after a rev, ascending by rev."""

    messages: list[Message]
    #: The last number taken in the room.
    head: int
    #: Whether there are others after these.
    more: bool
