"""The rules of rooms: who is in which, and what a room is called."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, exists, func, select

from ..auth.schemas import Account
from ..errors import NotFound
from ..models import LOBBY, Member, RevokedToken, Room, User
from . import schemas

# Counted, not stored: a stored number drifts.
_members = (
    select(func.count())
    .where(Member.room_id == Room.id)
    .correlate(Room)
    .scalar_subquery()
    .label("members")
)
_room = (Room.id, Room.name, Room.kind, Room.topic, Room.head, _members)

# Every socket that opens asks this: one statement, built once.
_user_and_rooms = (
    select(
        User.username,
        exists().where(RevokedToken.jti == bindparam("jti")).label("revoked"),
        *_room,
    )
    .outerjoin(Member, Member.user_id == User.id)
    .outerjoin(Room, Room.id == Member.room_id)
    .where(User.id == bindparam("user_id"))
    .order_by(Room.id)
)
_lobby = select(*_room).where(Room.name == LOBBY)


def admitted_by(
    db: Connection, user_id: int, jti: str
) -> tuple[Account, list[schemas.Room]] | None:
    """The user and the rooms that they are in; None if the token is revoked or the user is gone."""
    rows = db.execute(_user_and_rooms, {"user_id": user_id, "jti": jti}).all()
    if not rows or rows[0].revoked:
        return None
    joined = [schemas.Room(*room) for _, _, *room in rows if room[0] is not None]
    return Account(user_id, rows[0].username), joined


def lobby(db: Connection) -> schemas.Room:
    """The room that everybody is in."""
    return schemas.Room(*db.execute(_lobby).one())


def find(db: Connection, user_id: int, ref: str) -> schemas.Room:
    """A room of the user's by its id, or a public one by its name. Raises NotFound.

    A room that one is not in looks just like one that does not exist.
    """
    if "\x00" in ref:  # PostgreSQL would refuse the question
        raise NotFound
    named = (Room.kind == "public") & (Room.name == ref)
    by_ref = Room.id == int(ref) if ref.isascii() and ref.isdigit() and len(ref) < 19 else named
    mine = select(Member.room_id).where(Member.user_id == user_id)
    room = db.execute(select(*_room).where(by_ref, Room.id.in_(mine))).one_or_none()
    if room is None:
        raise NotFound("There is no such room, or you are not in it.")
    return schemas.Room(*room)


def heads(db: Connection, room_ids: list[int]) -> dict[int, int]:
    """The last number taken in each of these rooms."""
    rows = db.execute(select(Room.id, Room.head).where(Room.id.in_(room_ids)))
    return {row.id: row.head for row in rows}
