"""What workers tell each other over the bus. All of it is in the database too, except typing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import msgspec

from ..auth.schemas import Account

#: The topic of what concerns every worker; what concerns a room has the room's.
ALL = "all"

#: Bytes of a batch's frames in one room beyond which the others read them from the database: one
#: statement then costs less than so many notifications.
FRAMES_MAX = 65_536

#: Bytes that a hint has beside its frames, at most.
_ENVELOPE = 200


class News(msgspec.Struct, tag="news", omit_defaults=True):
    """A room's head is ``rev`` now; ``frames`` are the payloads of the last revs, if they fit."""

    worker: str
    room: int
    rev: int
    frames: list[msgspec.Raw] = []


class Typing(msgspec.Struct, tag="typing"):
    """Somebody is writing something in a room."""

    worker: str
    room: int
    user: Account


class Revoked(msgspec.Struct, tag="revoked"):
    """Tokens, by their ``jti``, that have stopped working; maybe as their account is disabled."""

    worker: str
    tokens: list[str]
    disabled: bool = False


class Change(msgspec.Struct, frozen=True):
    """A user has sockets at a worker, in these rooms; in none, if there are no rooms."""

    user: Account
    rooms: list[int]


class Presence(msgspec.Struct, tag="presence", omit_defaults=True):
    """What has changed among a worker's users; without ``changes`` it is to be read."""

    worker: str
    version: int
    changes: list[Change] = []


Hint = News | Typing | Revoked | Presence

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Hint)


class Committed(NamedTuple):
    """A change of a room's log: ``payload`` is its frame's JSON."""

    room: int
    rev: int
    payload: bytes


def topic(room: int) -> str:
    """Where a room's hints are sent."""
    return f"room:{room}"


def encode(hint: Hint) -> bytes:
    """The hint as JSON, which PostgreSQL can carry too."""
    return _encoder.encode(hint)


def decode(payload: bytes) -> Hint:
    """What another worker has sent. Raises msgspec.DecodeError."""
    hint: Hint = _decoder.decode(payload)
    return hint


def news(worker: str, committed: Iterable[Committed], payload_max: int) -> Iterator[News]:
    """Hints of what was committed, the frames with them as far as they fit.

    Ascending by room and rev. The frames of a hint have revs without a gap; what another worker has
    written in between begins a new one.
    """
    for room, group in groupby(committed, key=lambda change: change.room):
        changes = list(group)
        if sum(len(change.payload) for change in changes) > FRAMES_MAX:
            yield News(worker, room, changes[-1].rev)
            continue
        part, size = News(worker, room, 0), 0
        for change in changes:
            more = len(change.payload) + 1
            follows = change.rev == part.rev + 1
            if part.frames and (size + more > payload_max - _ENVELOPE or not follows):
                yield part
                part, size = News(worker, room, 0), 0
            part.rev = change.rev
            if more <= payload_max - _ENVELOPE:
                part.frames.append(msgspec.Raw(change.payload))
                size += more
            else:  # too long for the bus: this one is read
                yield part
                part, size = News(worker, room, 0), 0
        if part.rev:
            yield part
