"""The one writer of messages in a worker: everything that is waiting goes into one transaction."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import NamedTuple

import msgspec
from flask import Flask
from sqlalchemy import Connection, bindparam, text, update
from sqlalchemy.exc import IntegrityError

from ..auth.schemas import Account
from ..errors import (
    ApiError,
    Internal,
    Invalid,
    NotFound,
    TooBusy,
    Unavailable,
    from_database,
)
from ..models import Room, UtcDateTime, now
from ..storage import transaction
from . import messages
from .frames import MessageFrame

log = logging.getLogger(__name__)

#: Posts of one transaction: at 500 the cost of a commit is spread thin, and it still takes well
#: under 100 ms.
BATCH = 500

#: Posts that may wait; beyond that, senders are told to come again.
QUEUE = 10_000

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


class Journal:
    """Takes posts from anywhere, writes them in batches, in the order in which they came.

    A post that comes alone is committed at once; those that come during a commit make up the next.
    ``publish`` is given the new messages after their senders have been told.
    """

    def __init__(self, app: Flask, publish: Callable[[list[MessageFrame]], None]) -> None:
        self._app = app
        self._publish = publish
        self._waiting: deque[Post] = deque()
        self._lock = Lock()
        self._ring = Event()
        self._idle = Event()
        self._idle.set()

    def submit(self, post: Post) -> None:
        """Queue a post. Raises TooBusy when too many are waiting."""
        with self._lock:
            if len(self._waiting) >= QUEUE:
                raise TooBusy("Too many messages are waiting; send it again.", retry_after=1)
            self._waiting.append(post)
            self._idle.clear()
        self._ring.set()

    def write(
        self,
        user: Account,
        room: int,
        text: str,
        client_id: str | None,
        reply_to: int | None,
        *,
        seconds: float,
    ) -> Answer:
        """Queue a post and wait for its answer.

        Raises TooBusy, and Unavailable when there is no answer in time.
        """
        answers: SimpleQueue[list[Answer]] = SimpleQueue()
        self.submit(Post(user, room, text, answers.put, client_id, reply_to))
        try:
            return answers.get(timeout=seconds)[0]
        except Empty:
            raise Unavailable(
                "It may still be written; send it again with the same client_id.", retry_after=2
            ) from None

    def flush(self, seconds: float) -> bool:
        """Wait until nothing is waiting, at most this long; whether it came to that."""
        return self._idle.wait(seconds)

    def step(self) -> None:
        """Wait for posts, and write all that there are."""
        self._ring.wait()
        self._ring.clear()
        try:
            while batch := self._take():
                self._write(batch)
                time.sleep(0)  # on SQLite nothing in a batch lets others run
        finally:
            if self._waiting:
                self._ring.set()

    def _take(self) -> list[Post]:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if not batch:
                self._idle.set()
            return batch

    def _write(self, batch: list[Post]) -> None:
        with self._app.app_context():
            written = _settle(batch)
        answers: dict[Sender, list[Answer]] = {}
        for answer in written.answers:
            answers.setdefault(answer.post.sender, []).append(answer)
        for sender, own in answers.items():
            try:
                sender(own)
            except Exception:
                log.exception("a sender could not be told")
        if written.new:
            self._publish(written.new)


def _settle(batch: list[Post]) -> Written:
    """Write the batch, or say to each of its senders why it was not. Never raises."""
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
            return _append(db, batch, {})
    except IntegrityError:
        pass
    # The constraint has spoken: something here was sent before (the usual reason), or its author is
    # gone. Nothing was written and no number was taken, so it is safe to look, and to do it again.
    try:
        with transaction() as db:
            keys = [post.key for post in batch if post.key]
            seen = messages.sent_as(db, keys, MessageFrame)
            return _append(db, batch, {(m.user.id, m.client_id): m for m in seen})
    except IntegrityError:
        if len(batch) == 1:
            log.exception("a message could not be written")
            return Written([Answer(batch[0], Internal())], [])
    # Each on its own, outage or not: what was written before one must still be acked.
    alone = [_settle([post]) for post in batch]
    return Written(
        [answer for one in alone for answer in one.answers],
        [message for one in alone for message in one.new],
    )


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

    The UPDATE locks the room until the commit, so that numbers become visible in their order; rooms
    are locked in the order of their ids, so that two workers never wait for each other.
    """
    numbers = {}
    for room_id, count in sorted(counts.items()):
        taken = update(Room).where(Room.id == room_id).values(head=Room.head + count)
        head = db.scalar(taken.returning(Room.head))
        if head is not None:
            numbers[room_id] = iter(range(head - count + 1, head + 1))
    return numbers


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
