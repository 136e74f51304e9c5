"""The rules of rooms: who is in which, and what a room is called."""

from __future__ import annotations

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from ..errors import NotFound
from ..models import LOBBY, Member, Room
from . import schemas


def rooms_of(session: Session, user_id: int) -> list[schemas.Room]:
    """The rooms that this user is in."""
    return _read(session, _rooms().where(Room.id.in_(_joined(user_id))))


def lobby(session: Session) -> schemas.Room:
    """The room that everybody is in."""
    return _read(session, _rooms().where(Room.name == LOBBY))[0]


def find(session: Session, user_id: int, ref: str) -> Room:
    """A room of the user's by its id, or a public one by its name. Raises NotFound.

    A room that one is not in looks just like one that does not exist.
    """
    named = (Room.kind == "public") & (Room.name == ref)
    by_ref = Room.id == int(ref) if ref.isascii() and ref.isdigit() and len(ref) < 19 else named
    room = session.scalar(select(Room).where(by_ref, Room.id.in_(_joined(user_id))))
    if room is None:
        raise NotFound("There is no such room, or you are not in it.")
    return room


def heads(session: Session, room_ids: list[int]) -> dict[int, int]:
    """The last number taken in each of these rooms."""
    rows = session.execute(select(Room.id, Room.head).where(Room.id.in_(room_ids)))
    return dict(rows.tuples())


def _joined(user_id: int) -> Select[int]:
    return select(Member.room_id).where(Member.user_id == user_id)


def _rooms() -> Select[Room, int]:
    # Counted, not stored: a stored number drifts.
    members = select(func.count()).where(Member.room_id == Room.id).scalar_subquery()
    return select(Room, members)


def _read(session: Session, query: Select[Room, int]) -> list[schemas.Room]:
    return [
        schemas.Room(room.id, room.name, room.kind, room.topic, room.head, members)
        for room, members in session.execute(query.order_by(Room.id))
    ]
