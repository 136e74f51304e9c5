"""Two workers, one database and some devices, in which every happening is one call, in any order.

The journals, hubs, peers, connections and clients are the real ones. There are no threads, sockets
or clocks: whoever calls decides what comes first, what comes late, and what is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from sqlalchemy import Connection, delete, event, insert, select, update
from sqlalchemy.exc import OperationalError

from bytechat import create_app, storage
from bytechat.bus import LocalEngine
from bytechat.chat import journal, messages, peer, posts, runtime
from bytechat.chat.frames import MessageFrame
from bytechat.client import Message, User
from bytechat.client import log as client_log
from bytechat.extensions import db
from bytechat.models import LOBBY, Member, Room, UserSession, now
from bytechat.models import Message as Row
from bytechat.models import User as Account
from bytechat.realtime import cohort, feed, hub

from .databases import Databases, settings

#: Their ids, in the database of a World.
ALICE, BOB = 1, 2
NAMES = {ALICE: "alice", BOB: "bob"}
ROOMS = (1, 2)

#: When a transaction fails: before anything is written, at the commit, or when all is written and
#: only the answer is lost.
Fault = Literal["before", "at the commit", "after the commit"]

#: So small that a few messages already make pages, resets, full queues and full rings.
SIZES = {
    (journal, "BATCH"): 3,
    (journal, "QUEUE"): 5,
    (messages, "PAGE_CHARACTERS"): 12,
    (peer, "CHANGES_MAX"): 3,
    (peer, "RESET_AFTER"): 7,
    (cohort, "COHORT"): 2,
    (hub, "PAGE"): 2,
    (hub, "TURN_SECONDS"): 1_000_000,  # nothing here depends on how fast the machine is
    (hub, "PORTION"): 250,
    (feed, "RING_BYTES"): 400,
    (feed, "EARLY_MAX"): 2,
    (client_log, "EARLY_MAX"): 2,
}

HEADS = select(Room.id, Room.head)
ALL = select(Row.__table__, Account.username).join(Account, Account.id == Row.user_id)


def lost() -> OperationalError:
    return OperationalError("a statement", {}, Exception("the database is gone"))


class Faults:
    """Makes the next uses of the database fail, each as it is said; None is one that goes well."""

    def __init__(self) -> None:
        self._coming: list[Fault | None] = []

    @contextmanager
    def coming(self, *faults: Fault | None) -> Iterator[None]:
        self._coming = list(faults)
        yield
        self._coming = []

    def transaction(self) -> AbstractContextManager[Connection]:
        """In place of the product's."""
        return self._failing(storage.transaction())

    def reading(self) -> AbstractContextManager[Connection]:
        """In place of the product's."""
        return self._failing(storage.reading())

    @contextmanager
    def _failing(self, use: AbstractContextManager[Connection]) -> Iterator[Connection]:
        fault = self._coming.pop(0) if self._coming else None
        if fault == "before":
            raise lost()
        with use as connection:
            yield connection
            if fault == "at the commit":
                raise lost()
        if fault == "after the commit":
            raise lost()


class Doorbell(LocalEngine):
    """There are others; whoever calls decides what they hear. A hint has room for two frames."""

    alone = False
    payload_max = 700


class Worker:
    """One process: its hub, its journal, and what it has committed and not published yet."""

    def __init__(self, url: str) -> None:
        self._settings = settings(url)
        self._doorbell = Doorbell()
        self.app = create_app(self._settings)
        with self.app.app_context():
            # Nothing here survives a power cut, so nothing need wait for the disk.
            event.listen(
                db.engine,
                "connect",
                lambda connection, _record: connection.execute("PRAGMA synchronous = OFF"),
            )
        self.restart()

    def restart(self) -> None:
        self.held: deque[list[MessageFrame]] = deque()
        self.runtime = runtime.Runtime(self.app, self._settings, self._doorbell)
        self.runtime.neighbours.sockets = {"the other": 1}
        self.runtime.journal = journal.Journal(self.app, self.held.append)
        self.hub = self.runtime.hub
        self.hub._read_since = self._read_since
        self.meanwhile: list[Worker] = []

    @property
    def posts(self) -> int:
        """How many are waiting to be written."""
        return len(self.runtime.journal._waiting)

    @property
    def awake(self) -> bool:
        """Whether the hub has something to do."""
        return self.hub._ring.is_set() or self.hub._gap_ring.is_set()

    @property
    def busy(self) -> bool:
        return bool(self.posts or self.held or self.awake)

    def write(self) -> None:
        """The journal's turn."""
        if self.posts:
            self.runtime.journal.step()

    def publish(self) -> list[bytes]:
        """To the own hub, what was committed first; it is what the others may be told."""
        if not self.held:
            return []
        self.runtime._publish(self.held.popleft())
        outgoing = self.runtime.neighbours.bus._outgoing
        told = [payload for _topic, payload in outgoing]
        outgoing.clear()
        return told

    def hear(self, hint: bytes) -> None:
        """What another worker has told."""
        self.runtime.neighbours._receive(hint)

    def give_out(self) -> None:
        """The hub's turn, to read and to write."""
        if self.hub._gap_ring.is_set():
            self.hub.catch_up()
        if self.hub._ring.is_set():
            self.hub.step()

    def sweep(self) -> None:
        with self.app.app_context():
            self.runtime.neighbours.sweep()

    def _read_since(self, room: int, rev: int, limit: int) -> list[tuple[int, bytes]]:
        found = self.runtime._read_since(room, rev, limit)
        talking, self.meanwhile = self.meanwhile, []
        for worker in talking:  # what was read is old before it is used
            worker.write()
            worker.publish()
        return found


@dataclass
class Log:
    """One room as a fresh read of the database shows it."""

    head: int
    rows: dict[int, Message]


class World:
    """The database and its workers; ``logs`` is what was read from it last."""

    def __init__(self, databases: Databases, patch: pytest.MonkeyPatch) -> None:
        for (module, name), size in SIZES.items():
            patch.setattr(module, name, size)
        self.faults = Faults()
        patch.setattr(posts, "transaction", self.faults.transaction)
        for using in (peer, runtime):
            patch.setattr(using, "reading", self.faults.reading)
        url = databases.fresh("sqlite")
        self.workers = [Worker(url), Worker(url)]
        with self.transaction() as connection:
            connection.execute(
                insert(Account),
                [{"username": n, "display_name": n, "created_at": now()} for n in NAMES.values()],
            )
            connection.execute(
                insert(UserSession),
                [
                    {"id": user, "user_id": user, "created_at": now(), "expires_at": now()}
                    for user in NAMES
                ],
            )
            assert connection.scalar(select(Room.id).where(Room.name == LOBBY)) == ROOMS[0]
            connection.execute(
                insert(Room),
                {"name": "two", "kind": "public", "topic": "", "head": 0, "created_at": now()},
            )
            connection.execute(
                insert(Member),
                [
                    {"room_id": room, "user_id": user, "role": "member", "joined_at": now()}
                    for room in ROOMS
                    for user in NAMES
                ],
            )
        self.begin()

    def close(self) -> None:
        for worker in self.workers:
            storage.close(worker.app)

    def begin(self) -> None:
        """Nothing has been said, and nobody is there."""
        with self.transaction() as connection:
            connection.execute(delete(Row))
            connection.execute(update(Room).values(head=0))
        for worker in self.workers:
            worker.restart()
        self.logs = {room: Log(0, {}) for room in ROOMS}
        #: Every message as it was at each of its changes, by room and rev.
        self.versions: dict[tuple[int, int], Message] = {}

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One that does not fail."""
        with self.workers[0].app.app_context(), storage.transaction() as connection:
            yield connection

    def change(self, message: Message, text: str) -> MessageFrame:
        """Change a message as an edit will: it takes the room's next number."""
        with self.transaction() as connection:
            taken = update(Room).where(Room.id == message.room).values(head=Room.head + 1)
            rev = connection.scalar(taken.returning(Room.head))
            assert rev
            changed = update(Row).where(Row.id == message.id)
            connection.execute(changed.values(rev=rev, text=text))
            (frame,) = messages.changed_since(connection, message.room, rev - 1, 1, MessageFrame)
        return frame

    def read(self) -> None:
        """Read all of the database, and check that its numbers are in the order of the changes."""
        with self.transaction() as connection:
            heads = {row.id: row.head for row in connection.execute(HEADS)}
            rows = [self._message(row) for row in connection.execute(ALL)]
        for room, before in self.logs.items():
            log = Log(heads[room], {m.id: m for m in rows if m.room == room})
            new = [m for m in log.rows.values() if m.rev > before.head]
            assert sorted(m.rev for m in new) == list(range(before.head + 1, log.head + 1))
            for message in log.rows.values():
                first = before.rows.get(message.id, message)
                assert message in new or message == first
                assert message.seq == first.seq <= message.rev
            self.versions |= {(room, m.rev): m for m in new}
            assert before.rows.keys() <= log.rows.keys()
            self.logs[room] = log

    @staticmethod
    def _message(row: Any) -> Message:
        author = User(id=row.user_id, username=row.username)
        values = {name: getattr(row, name) for name in ("id", "seq", "rev", "kind", "text")}
        return Message(
            **values,
            room=row.room_id,
            user=author,
            created_at=row.created_at,
            client_id=row.client_id,
            reply_to=row.reply_to,
        )
