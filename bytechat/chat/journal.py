"""The one writer of messages in a worker: everything that is waiting goes into one transaction."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Lock

from flask import Flask

from ..auth.schemas import Account
from ..errors import TooBusy, Unavailable
from ..realtime.turns import give_way
from . import posts
from .frames import MessageFrame
from .posts import Answer, Post, Sender

log = logging.getLogger(__name__)

#: Posts of one transaction, and characters of their texts: at 500 the cost of a commit is spread
#: thin, and it still takes well under 100 ms.
BATCH = 500
BATCH_CHARACTERS = 500_000

#: Posts that may wait; beyond that, senders are told to come again.
QUEUE = 10_000


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
        self._taken_in = self._dealt_with = 0  # posts, since the start
        #: New messages, since the start.
        self.committed = 0
        # Whoever waits for posts to be dealt with has an event of their own: gevent may wake the
        # waiters of a new round of set(), clear(), wait() by the last one's set().
        self._flushes: list[tuple[int, Event]] = []

    @property
    def waiting(self) -> int:
        """Posts that wait to be written."""
        return len(self._waiting)

    def submit(self, post: Post) -> None:
        """Queue a post. Raises TooBusy when too many are waiting."""
        with self._lock:
            if len(self._waiting) >= QUEUE:
                raise TooBusy("Too many messages are waiting; send it again.", retry_after=1)
            self._waiting.append(post)
            self._taken_in += 1
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
        """Wait until all that is queued now is dealt with, at most this long; whether it was."""
        done = Event()
        with self._lock:
            if self._dealt_with == self._taken_in:
                return True
            self._flushes.append((self._taken_in, done))
        return done.wait(seconds)

    def step(self) -> None:
        """Wait for posts, and write all that there are."""
        self._ring.wait()
        self._ring.clear()
        try:
            while batch := self._take():
                try:
                    self._write(batch)
                finally:
                    self._note(len(batch))
                give_way()  # on SQLite nothing in a batch lets others run
        finally:
            if self._waiting:
                self._ring.set()

    def _take(self) -> list[Post]:
        batch: list[Post] = []
        size = 0
        with self._lock:
            while self._waiting and len(batch) < BATCH and size < BATCH_CHARACTERS:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].text)
        return batch

    def _note(self, count: int) -> None:
        """Tell those whose posts have all been dealt with."""
        with self._lock:
            self._dealt_with += count
            told = [done for until, done in self._flushes if until <= self._dealt_with]
            self._flushes = [later for later in self._flushes if later[0] > self._dealt_with]
        for done in told:
            done.set()

    def _write(self, batch: list[Post]) -> None:
        with self._app.app_context():
            written = posts.write(batch)
        answers: dict[Sender, list[Answer]] = {}
        for answer in written.answers:
            answers.setdefault(answer.post.sender, []).append(answer)
        for sender, own in answers.items():
            try:
                sender(own)
            except Exception:
                log.exception("a sender could not be told")
        self.committed += len(written.new)
        if written.new:
            self._publish(written.new)
