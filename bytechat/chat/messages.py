"""The rules of messages: what may be said, and how a room's log is read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Row, Select, exists, select
from sqlalchemy.orm import Session

from ..auth.schemas import Account
from ..errors import Invalid
from ..models import Message, Room, User
from . import schemas

M = TypeVar("M", bound=schemas.Message)


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


def history(session: Session, room: Room, query: schemas.HistoryQuery) -> schemas.History:
    """A page before or after a seq, or the newest one. Raises Invalid."""
    if query.before is not None and query.after is not None:
        sentence = "Ask for what is before or for what is after, not for both."
        raise Invalid(sentence, errors={"before": [sentence], "after": [sentence]})
    wanted = _messages().where(Message.room_id == room.id)
    if query.after is not None:
        wanted = wanted.where(Message.seq > query.after).order_by(Message.seq)
    else:
        if query.before is not None:
            wanted = wanted.where(Message.seq < query.before)
        wanted = wanted.order_by(Message.seq.desc())
    rows = session.execute(
        wanted.limit(query.limit + 1)
    ).all()  # one more tells whether there is more
    more, rows = len(rows) > query.limit, rows[: query.limit]
    if query.after is not None:
        before = _any(session, room, Message.seq <= query.after)
        return schemas.History(_read(rows, schemas.Message), before, more, room.head)
    after = query.before is not None and _any(session, room, Message.seq >= query.before)
    return schemas.History(_read(rows[::-1], schemas.Message), more, after, room.head)


def changed_since(session: Session, room_id: int, rev: int, limit: int, cls: type[M]) -> list[M]:
    """What changed in the room after this rev, ascending by rev, as Structs of ``cls``."""
    query = _messages().where(Message.room_id == room_id, Message.rev > rev)
    return _read(session.execute(query.order_by(Message.rev).limit(limit)).all(), cls)


def sent_as(session: Session, keys: Iterable[tuple[int, str | None]], cls: type[M]) -> list[M]:
    """The messages that already have one of these (user_id, client_id), as Structs of ``cls``."""
    authors, client_ids = {user for user, _ in keys}, {client_id for _, client_id in keys}
    query = _messages().where(Message.user_id.in_(authors), Message.client_id.in_(client_ids))
    return _read(session.execute(query).all(), cls)


def _messages() -> Select[Message, str]:
    return select(Message, User.username).join(User, User.id == Message.user_id)


def _read(rows: Sequence[Row[Message, str]], cls: type[M]) -> list[M]:
    return [
        cls(
            id=row.id,
            room=row.room_id,
            seq=row.seq,
            rev=row.rev,
            user=Account(row.user_id, author),
            kind=row.kind,
            text=row.text,
            created_at=row.created_at,
            client_id=row.client_id,
        )
        for row, author in rows
    ]


def _any(session: Session, room: Room, condition: Any) -> bool:
    return bool(session.scalar(select(exists().where(Message.room_id == room.id, condition))))
