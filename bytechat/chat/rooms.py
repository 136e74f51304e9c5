"""The rules of rooms: who is in which, and what a room is called."""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, case, func, select, text

from ..auth import tokens
from ..auth.schemas import Account
from ..errors import NotFound
from ..models import LOBBY, Member, Room, User
from . import schemas

# Counted, not stored: a stored number drifts.
_members = (
    select(func.count())
    .where(Member.room_id == Room.id)
    .correlate(Room)
    .scalar_subquery()
    .label("members")
)
_room = (Room.id, Room.name, Room.kind, Room.topic, Room.head)

# Every socket that opens asks this: one statement, built once.
_user_and_rooms = (
    select(
        User.username,
        *tokens.STANDING,
        *_room,
        case((Room.id.in_(bindparam("crowds", expanding=True)), None), else_=_members),
    )
    .outerjoin(Member, Member.user_id == User.id)
    .outerjoin(Room, Room.id == Member.room_id)
    .where(User.id == bindparam("user_id"))
    .order_by(Room.id)
)
_lobby = select(*_room, _members).where(Room.name == LOBBY)

# The sweep asks for thousands of rooms at once: one parameter, and not one for each.
_heads = {
    "postgresql": text("""
        SELECT id, head FROM rooms
        WHERE id IN (SELECT CAST(value AS bigint) FROM json_array_elements_text(:ids) AS value)
        """),
    "sqlite": text("""
        SELECT id, head FROM rooms WHERE id IN (SELECT value FROM json_each(:ids))
        """),
}

#: Members from which on a room is a crowd, and seconds for which its count is good. To count it for
#: each socket would take longer than all the rest, when everybody comes back after a restart.
CROWD = 500
CROWD_SECONDS = 1.0


class Place(NamedTuple):
    """What reading a room's log takes."""

    id: int
    head: int


class Crowds:
    """How many members the big rooms have, counted once a second at most."""

    def __init__(self) -> None:
        self._counts: dict[int, tuple[int, float]] = {}

    def fresh(self) -> dict[int, int]:
        """Members by room, of those that need not be counted now."""
        moment = monotonic()
        return {room: count for room, (count, until) in self._counts.items() if moment < until}

    def note(self, room: int, count: int) -> None:
        """Keep what was counted just now, if the room is a crowd."""
        if count >= CROWD:
            self._counts[room] = (count, monotonic() + CROWD_SECONDS)


def admitted_by(
    db: Connection, user_id: int, session_id: int, jti: str, crowds: Crowds
) -> tuple[Account, list[schemas.Room]]:
    """The user of this token, and the rooms that they are in.

    Raises TokenRevoked, also if the user is gone, and TokenDisabled.
    """
    known = crowds.fresh()
    asked = {"user_id": user_id, "sid": session_id, "jti": jti, "crowds": list(known)}
    rows = db.execute(_user_and_rooms, asked).all()
    tokens.check(rows[0] if rows else None)
    joined = []
    for _, _, _, room_id, *about, members in rows:
        if room_id is None:
            break  # a user who is in no room has one row all the same
        if members is not None:
            crowds.note(room_id, members)
        room = (room_id, *about, known.get(room_id, members))
        joined.append(schemas.Room(*room))
    return Account(user_id, rows[0].username), joined


def lobby(db: Connection) -> schemas.Room:
    """The room that everybody is in."""
    return schemas.Room(*db.execute(_lobby).one())


def find(db: Connection, user_id: int, ref: str) -> Place:
    """A room of the user's by its id, or a public one by its name. Raises NotFound.

    A room that one is not in looks just like one that does not exist.
    """
    if "\x00" in ref:  # PostgreSQL would refuse the question
        raise NotFound
    named = (Room.kind == "public") & (Room.name == ref)
    by_ref = Room.id == int(ref) if ref.isascii() and ref.isdigit() and len(ref) < 19 else named
    mine = select(Member.room_id).where(Member.user_id == user_id)
    room = db.execute(select(Room.id, Room.head).where(by_ref, Room.id.in_(mine))).one_or_none()
    if room is None:
        raise NotFound("There is no such room, or you are not in it.")
    return Place(*room)


def heads(db: Connection, room_ids: list[int]) -> dict[int, int]:
    """The last number taken in each of these rooms."""
    asked = {"ids": msgspec.json.encode(room_ids).decode()}
    return {room: head for room, head in db.execute(_heads[db.dialect.name], asked)}  # noqa: C416 rows
