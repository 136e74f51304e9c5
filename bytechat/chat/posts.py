"""Posts on their way into the log: a batch of them is one transaction."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import IntegrityError

from ..auth.schemas import Account
from ..errors import ApiError, Internal, Invalid, NotFound, Unavailable, from_database
from ..models import UtcDateTime, now
from ..storage import transaction
from . import messages
from .frames import MessageFrame

log = logging.getLogger(__name__)

_TAKES = {
    "postgresql": text("""
        WITH taken AS (
            SELECT rooms.id, wanted.count
            FROM json_to_recordset(:wanted) AS wanted (room bigint, count bigint)
            JOIN rooms ON rooms.id = wanted.room
            ORDER BY rooms.id
            FOR UPDATE OF rooms
        )
        UPDATE rooms SET head = head + taken.count FROM taken WHERE rooms.id = taken.id
        RETURNING rooms.id, rooms.head
        """),
    "sqlite": text("""
        UPDATE rooms SET head = head + json_extract(wanted.value, '$.count')
        FROM json_each(:wanted) AS wanted
        WHERE rooms.id = json_extract(wanted.value, '$.room')
        RETURNING id, head
        """),
}

# A whole batch is one parameter, in JSON: an eighth of the CPU that a row costs when each of its
# values is one, and half of the time (PostgreSQL; on SQLite half of both).
_COLUMNS = "room_id, seq, rev, user_id, kind, client_id, reply_to, text, created_at"
_ROWS = {
    "postgresql": """
        SELECT room, rev, rev, author, 'text', client_id, reply_to, text, :created_at
        FROM json_to_recordset(:rows) AS new
            (room bigint, rev bigint, author bigint, client_id text, reply_to bigint, text text)
        ORDER BY room, rev
        """,
    "sqlite": """
        SELECT
            json_extract(value, '$.room'),
            json_extract(value, '$.rev'),
            json_extract(value, '$.rev'),
            json_extract(value, '$.author'),
            'text',
            json_extract(value, '$.client_id'),
            json_extract(value, '$.reply_to'),
            json_extract(value, '$.text'),
            :created_at
        FROM json_each(:rows)
        ORDER BY 1, 2
        """,
}
_INSERTS = {
    dialect: text(
        f"INSERT INTO messages ({_COLUMNS}) {rows} RETURNING id, room_id, rev"
    ).bindparams(bindparam("created_at", type_=UtcDateTime))
    for dialect, rows in _ROWS.items()
}

Outcome = MessageFrame | ApiError

#: The author's id and the client_id.
Key = tuple[int, str | None]


@dataclass(slots=True, eq=False)
class Post:
    """Something said, on its way into the log.

    ``sender`` is called once with its answer: after the commit, never before. Posts of one batch
    that have the same sender are answered together.
    """

    user: Account
    room: int
    text: str
    sender: Sender
    client_id: str | None = None
    reply_to: int | None = None

    @property
    def key(self) -> Key | None:
        """What makes two posts the same one, sent again."""
        return (self.user.id, self.client_id) if self.client_id else None


class Answer(NamedTuple):
    """What became of a post."""

    post: Post
    outcome: Outcome
    #: Whether the outcome is that of an earlier post with the same client_id.
    repeat: bool = False


Sender = Callable[[list[Answer]], None]


class Written(NamedTuple):
    """What a transaction came to: an answer for each post, and the messages that are new."""

    answers: list[Answer]
    new: list[MessageFrame]


def write(batch: list[Post]) -> Written:
    """Write the batch, or have it said to each of its senders why it was not. Never raises.

    Needs an application context.
    """
    try:
        return _commit(batch)
    except Exception as error:
        outcome = from_database(error)
        if outcome is None:
            log.exception("a batch of messages could not be written")
            outcome = Internal(retry_after=5)
        else:
            log.warning("the database failed a batch", extra={"messages": len(batch)})
        return Written([Answer(post, outcome) for post in batch], [])


def _commit(batch: list[Post]) -> Written:
    """Write the batch. A post that cannot be written fails alone."""
    try:
        with transaction() as db:
            # A repeat gets the first one's answer, whatever it replies to.
            replies = [post.key for post in batch if post.key and post.reply_to]
            return _append(db, batch, _known(db, replies))
    except IntegrityError:
        pass
    # The constraint has spoken: something here was sent before (the usual reason), or its author is
    # gone. Nothing was written and no number was taken, so it is safe to look, and to do it again.
    try:
        with transaction() as db:
            return _append(db, batch, _known(db, [post.key for post in batch if post.key]))
    except IntegrityError:
        if len(batch) == 1:
            log.exception("a message could not be written")
            return Written([Answer(batch[0], Internal())], [])
    # Each on its own. What was written before an outage must still be acked; what comes after it
    # is not tried, as each would wait for the database in turn.
    answers: list[Answer] = []
    new: list[MessageFrame] = []
    for place, post in enumerate(batch):
        alone = write([post])
        answers += alone.answers
        new += alone.new
        if isinstance(outcome := alone.answers[0].outcome, Unavailable):
            answers += [Answer(untried, outcome) for untried in batch[place + 1 :]]
            break
    return Written(answers, new)


def _known(db: Connection, keys: list[Key]) -> dict[Key | None, MessageFrame]:
    """The messages that already have one of these keys."""
    seen = messages.sent_as(db, keys, MessageFrame) if keys else []
    return {(message.user.id, message.client_id): message for message in seen}


def _append(db: Connection, batch: list[Post], known: Mapping[Key | None, MessageFrame]) -> Written:
    """Give the posts that are not known yet their numbers, and insert them."""
    firsts: dict[Key, Post] = {}
    fresh = [
        post
        for post in batch
        if not post.key or (post.key not in known and firsts.setdefault(post.key, post) is post)
    ]
    strays = _strays(db, fresh)
    numbers = _take_numbers(db, Counter(post.room for post in fresh if post not in strays))
    accepted = [post for post in fresh if post.room in numbers and post not in strays]
    written = _insert(db, accepted, numbers)

    def answer(post: Post) -> Answer:
        if post.key in known:
            return Answer(post, known[post.key], repeat=True)
        first = firsts[post.key] if post.key else post
        outcome: Outcome
        if first in strays:
            sentence = "There is no such message in this room."
            outcome = Invalid(sentence, errors={"reply_to": [sentence]})
        else:
            outcome = written.get(first) or NotFound("There is no such room.")
        return Answer(post, outcome, repeat=first is not post)

    return Written([answer(post) for post in batch], list(written.values()))


def _strays(db: Connection, posts: list[Post]) -> set[Post]:
    """Those that answer a message which is not in their room."""
    targets = {post: post.reply_to for post in posts if post.reply_to}
    if not targets:
        return set()
    rooms = messages.rooms_of(db, targets.values())
    return {post for post, target in targets.items() if rooms.get(target) != post.room}


def _take_numbers(db: Connection, counts: Mapping[int, int]) -> dict[int, Iterator[int]]:
    """The next numbers of each room, as many as were asked for; a room that is gone has none.

    The UPDATE locks the rooms until the commit, so that numbers become visible in their order; it
    locks them in the order of their ids, so that two workers never wait for each other.
    """
    wanted = [{"room": room, "count": count} for room, count in counts.items()]
    rows = db.execute(_TAKES[db.dialect.name], {"wanted": msgspec.json.encode(wanted).decode()})
    return {room: iter(range(head - counts[room] + 1, head + 1)) for room, head in rows}


def _insert(
    db: Connection, posts: list[Post], numbers: Mapping[int, Iterator[int]]
) -> dict[Post, MessageFrame]:
    """Write the posts, each with its room's next number."""
    if not posts:
        return {}
    created_at = now()
    numbered = {(post.room, next(numbers[post.room])): post for post in posts}
    rows = [
        {
            "room": room,
            "rev": rev,
            "author": post.user.id,
            "client_id": post.client_id,
            "reply_to": post.reply_to,
            "text": post.text,
        }
        for (room, rev), post in numbered.items()
    ]
    statement = _INSERTS[db.dialect.name]
    values = {"rows": msgspec.json.encode(rows).decode(), "created_at": created_at}
    ids = {(row.room_id, row.rev): row.id for row in db.execute(statement, values)}
    return {
        post: MessageFrame(
            id=ids[room, rev],
            room=room,
            seq=rev,
            rev=rev,
            user=post.user,
            kind="text",
            text=post.text,
            created_at=created_at,
            client_id=post.client_id,
            reply_to=post.reply_to,
        )
        for (room, rev), post in numbered.items()
    }
