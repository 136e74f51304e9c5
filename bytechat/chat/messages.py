"""The rules of messages: what may be said, and how a room's log is read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, exists, select

from ..auth.schemas import Account
from ..errors import Invalid
from ..models import Message, User
from . import schemas

M = TypeVar("M", bound=schemas.Message)

#: In the order of the Struct's fields; the two of the user come where the user stands.
_select = select(
    Message.id,
    Message.room_id,
    Message.seq,
    Message.rev,
    Message.user_id,
    User.username,
    Message.kind,
    Message.text,
    Message.created_at,
    Message.client_id,
    Message.reply_to,
).join(User, User.id == Message.user_id)


def check_text(text: str, longest: int) -> None:
    """Raise Invalid unless the text can be said; ``longest`` is in characters, 0 for no limit."""
    sentence = ""
    if not text.strip():
        sentence = "A message has a text."
    elif longest and len(text) > longest:
        sentence = f"A message has at most {longest} characters."
    elif "\x00" in text:
        sentence = "A message has no NUL characters."
    if sentence:
        raise Invalid(sentence, errors={"text": [sentence]})


def history(db: Connection, room: schemas.Room, query: schemas.HistoryQuery) -> schemas.History:
    """A page before or after a seq, or the newest one. Raises Invalid."""
    if query.before is not None and query.after is not None:
        sentence = "Ask for what is before or for what is after, not for both."
        raise Invalid(sentence, errors={"before": [sentence], "after": [sentence]})
    wanted = _select.where(Message.room_id == room.id)
    if query.after is not None:
        wanted = wanted.where(Message.seq > query.after).order_by(Message.seq)
    else:
        if query.before is not None:
            wanted = wanted.where(Message.seq < query.before)
        wanted = wanted.order_by(Message.seq.desc())
    rows = db.execute(wanted.limit(query.limit + 1)).all()  # the one more tells of others
    # Another worker may have written between the reading of the room and that of its messages.
    head = max([room.head, *(row.seq for row in rows)])
    more, rows = len(rows) > query.limit, rows[: query.limit]
    if query.after is not None:
        before = _any(db, room, Message.seq <= query.after)
        return schemas.History(_read(rows, schemas.Message), before, more, head)
    after = query.before is not None and _any(db, room, Message.seq >= query.before)
    return schemas.History(_read(rows[::-1], schemas.Message), more, after, head)


def rooms_of(db: Connection, ids: Iterable[int]) -> dict[int, int]:
    """The room of each of these messages, by the message's id."""
    rows = db.execute(select(Message.id, Message.room_id).where(Message.id.in_(ids)))
    return {row.id: row.room_id for row in rows}


def changed_since(db: Connection, room_id: int, rev: int, limit: int, cls: type[M]) -> list[M]:
    """What changed in the room after this rev, ascending by rev, as Structs of ``cls``."""
    query = _select.where(Message.room_id == room_id, Message.rev > rev)
    return _read(db.execute(query.order_by(Message.rev).limit(limit)).all(), cls)


def sent_as(db: Connection, keys: Sequence[tuple[int, str | None]], cls: type[M]) -> list[M]:
    """The messages that already have one of these (user_id, client_id), as Structs of ``cls``."""
    authors, client_ids = {user for user, _ in keys}, {client_id for _, client_id in keys}
    query = _select.where(Message.user_id.in_(authors), Message.client_id.in_(client_ids))
    return _read(db.execute(query).all(), cls)


def _read(rows: Iterable[Any], cls: type[M]) -> list[M]:
    return [
        cls(message_id, room_id, seq, rev, Account(user_id, username), *rest)
        for message_id, room_id, seq, rev, user_id, username, *rest in rows
    ]


def _any(db: Connection, room: schemas.Room, condition: Any) -> bool:
    return bool(db.scalar(select(exists().where(Message.room_id == room.id, condition))))
