"""The rules of messages: what may be said, and how a room's log is read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Integer, bindparam, select, tuple_

from ..api import BIGINT_MAX
from ..auth.schemas import Account
from ..errors import Invalid
from ..models import Message, User
from . import schemas
from .rooms import Place

M = TypeVar("M", bound=schemas.Message)

#: Characters of the texts on a page of changes, about.
PAGE_CHARACTERS = 100_000

#: Messages of a page that are read before it is known how long they are.
FIRST_STEP = 50

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

# What every reconnect and every page asks: built once, as that takes longer than to answer it.
_log = _select.where(Message.room_id == bindparam("room"))
_limit = bindparam("limit", type_=Integer)
_before = _log.where(Message.seq < bindparam("seq")).order_by(Message.seq.desc()).limit(_limit)
_onward = _log.where(Message.seq >= bindparam("seq")).order_by(Message.seq).limit(_limit)
_changed = _log.where(Message.rev > bindparam("rev")).order_by(Message.rev).limit(_limit)


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


def history(db: Connection, room: Place, query: schemas.HistoryQuery) -> schemas.History:
    """A page before, after or around a seq, or the newest one. Raises Invalid."""
    given = [name for name in ("before", "after", "around") if getattr(query, name) is not None]
    if len(given) > 1:
        sentence = "Ask for what is before, after or around, for one of them."
        raise Invalid(sentence, errors={name: [sentence] for name in given})
    pivot, older, newer = _window(query)
    # One more on each side tells whether there are others.
    asked = {"room": room.id, "seq": pivot}
    past = db.execute(_before, {**asked, "limit": older + 1}).all()
    future = db.execute(_onward, {**asked, "limit": newer + 1}).all()
    return schemas.History(
        _read([*reversed(past[:older]), *future[:newer]], schemas.Message),
        has_before=len(past) > older,
        has_after=len(future) > newer,
        # Another worker may have written between the reading of the room and that of its messages.
        head=max([room.head, *(row.seq for row in (*past, *future))]),
    )


def _window(query: schemas.HistoryQuery) -> tuple[int, int, int]:
    """A seq, and how many messages are wanted before it, and from it on."""
    if query.after is not None:
        return min(query.after + 1, BIGINT_MAX), 0, query.limit
    if query.around is not None:
        return query.around, query.limit // 2, query.limit - query.limit // 2
    return BIGINT_MAX if query.before is None else query.before, query.limit, 0


def rooms_of(db: Connection, ids: Iterable[int]) -> dict[int, int]:
    """The room of each of these messages, by the message's id."""
    rows = db.execute(select(Message.id, Message.room_id).where(Message.id.in_(ids)))
    return {row.id: row.room_id for row in rows}


def changes(db: Connection, room: Place, query: schemas.ChangesQuery) -> schemas.Changes:
    """A page of what changed in a room.

    It may be shorter than asked for: it has about PAGE_CHARACTERS at most, as making it holds
    everybody else up, and a socket that is given it has a bounded outbox.
    """
    found: list[schemas.Message] = []
    size, since, step = 0, query.since, FIRST_STEP
    # Long texts are not read to be thrown away: a few first, then the rest if they are short.
    while len(found) <= query.limit and size <= PAGE_CHARACTERS:
        more = changed_since(
            db, room.id, since, min(step, query.limit + 1 - len(found)), schemas.Message
        )
        found += more
        if len(more) < step:
            break
        size += sum(len(message.text) for message in more)
        since, step = found[-1].rev, query.limit + 1
    page: list[schemas.Message] = []
    size = 0
    for message in found[: query.limit]:
        size += len(message.text)
        if page and size > PAGE_CHARACTERS:
            break
        page.append(message)
    # Another worker may have written between the reading of the head and that of the messages.
    head = max([room.head, *(message.rev for message in page[-1:])])
    return schemas.Changes(page, head, more=len(page) < len(found))


def changed_since(db: Connection, room_id: int, rev: int, limit: int, cls: type[M]) -> list[M]:
    """What changed in the room after this rev, ascending by rev, as Structs of ``cls``."""
    return _read(db.execute(_changed, {"room": room_id, "rev": rev, "limit": limit}).all(), cls)


def sent_as(db: Connection, keys: Sequence[tuple[int, str | None]], cls: type[M]) -> list[M]:
    """The messages that already have one of these (user_id, client_id), as Structs of ``cls``."""
    query = _select.where(tuple_(Message.user_id, Message.client_id).in_(keys))
    return _read(db.execute(query).all(), cls)


def _read(rows: Iterable[Any], cls: type[M]) -> list[M]:
    return [
        cls(message_id, room_id, seq, rev, Account(user_id, username), *rest)
        for message_id, room_id, seq, rev, user_id, username, *rest in rows
    ]
