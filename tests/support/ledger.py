"""The ledger: what writers were promised and readers were told, held against the database itself.

Nobody edits or deletes here: then the revs of a room are its seqs, and the log is all there is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from threading import Lock
from typing import NamedTuple

from sqlalchemy import create_engine, text

from bytechat.client import Ack, Message

from .databases import settings

#: Faults that are shown; the first ones say the most.
SHOWN = 30

#: The author's id and the client_id.
Key = tuple[int, str | None]


class Entry(NamedTuple):
    """A message: as the database has it, or as somebody was told."""

    room: int
    seq: int
    rev: int
    id: int
    author: int
    client_id: str | None
    text: str

    @property
    def key(self) -> Key:
        return self.author, self.client_id


class Stored(NamedTuple):
    """What the database has: the heads of the rooms, and the messages."""

    heads: dict[int, int]
    entries: list[Entry]


class Promise(NamedTuple):
    """An ack."""

    author: int
    ack: Ack


@dataclass
class Heard:
    """What a reader was told of a room after the rev ``start``, in the order in which it came."""

    start: int
    #: Whether it must have the room up to its head.
    complete: bool = True
    entries: list[Entry] = field(default_factory=list)


def read(database_url: str) -> Stored:
    """Read the tables with nothing of the server's between."""
    engine = create_engine(settings(database_url).sqlalchemy_url)
    try:
        with engine.connect() as db:
            heads = db.execute(text("SELECT id, head FROM rooms")).all()
            rows = db.execute(
                text("SELECT room_id, seq, rev, id, user_id, client_id, text FROM messages")
            )
            return Stored({row.id: row.head for row in heads}, [Entry(*row) for row in rows])
    finally:
        engine.dispose()


class Ledger:
    """Evidence, from any thread, and what is wrong with it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sent: dict[Key, str] = {}
        self._acked: list[Promise] = []
        self._refused: set[Key] = set()
        self._heard: dict[tuple[str, int], Heard] = {}
        #: One of those that are equal, as many readers are told the same.
        self._told: dict[Entry, Entry] = {}

    def sent(self, author: int, client_id: str, text: str) -> None:
        """Before it is sent: from here on it may be in the database."""
        with self._lock:
            self._sent[author, client_id] = text

    def acked(self, author: int, ack: Ack) -> None:
        """From here on it must be, as the ack says; each ack counts, also of one client_id."""
        with self._lock:
            self._acked.append(Promise(author, ack))

    def refused(self, author: int, client_id: str) -> None:
        """For good, not until later: from here on it must not be."""
        with self._lock:
            self._refused.add((author, client_id))

    def begins(self, reader: str, room: int, start: int) -> None:
        """A reader of a room wants all that is after the rev ``start``, up to the head."""
        with self._lock:
            self._heard[reader, room] = Heard(start)

    def leaves(self, reader: str, room: int) -> None:
        """Its socket was closed: what it was told must be in order, but need not be everything."""
        with self._lock:
            self._heard[reader, room].complete = False

    def heard(self, reader: str, message: Message) -> None:
        told = Entry(
            message.room,
            message.seq,
            message.rev,
            message.id,
            message.user.id,
            message.client_id,
            message.text,
        )
        with self._lock:
            told = self._told.setdefault(told, told)
            self._heard[reader, message.room].entries.append(told)

    def check(self, database_url: str) -> None:
        """Fail with everything that is wrong."""
        faults = list(self.faults(read(database_url)))
        assert not faults, "\n".join([f"{len(faults)} faults", *faults[:SHOWN]])

    def faults(self, stored: Stored) -> Iterator[str]:
        """What is wrong, one sentence each."""
        if not self._acked or not any(heard.entries for heard in self._heard.values()):
            yield "nothing was acked, or nothing was heard: this proves nothing"
        rooms: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in stored.entries:
            rooms[entry.room].append(entry)
        yield from _incomplete(stored.heads, rooms)
        yield from self._doubled_or_strange(stored.entries)
        yield from self._lost(stored.entries)
        for (reader, room), heard in self._heard.items():
            yield from _misheard(reader, heard, stored.heads[room], rooms[room])

    def _doubled_or_strange(self, entries: list[Entry]) -> Iterator[str]:
        counts = Counter(entry.key for entry in entries)
        yield from (f"{key} is stored {count} times" for key, count in counts.items() if count > 1)
        for entry in entries:
            if entry.key not in self._sent:
                yield f"{entry} is stored, and was never sent"
            elif entry.text != self._sent[entry.key]:
                yield f"{entry} is stored, and what was sent is {self._sent[entry.key]!r}"
            if entry.key in self._refused:
                yield f"{entry} is stored, and was refused"

    def _lost(self, entries: list[Entry]) -> Iterator[str]:
        by_key = {entry.key: entry for entry in entries}
        for author, ack in self._acked:
            entry = by_key.get((author, ack.client_id))
            if entry is None:
                yield f"{ack} to {author} is not stored"
            elif entry[:4] != (ack.room, ack.seq, ack.rev, ack.id):
                yield f"{ack} to {author} is stored as {entry}"


def _incomplete(heads: dict[int, int], rooms: dict[int, list[Entry]]) -> Iterator[str]:
    for room, head in heads.items():
        wanted = Counter(range(1, head + 1))
        for name in ("seq", "rev"):
            there = Counter(getattr(entry, name) for entry in rooms.get(room, []))
            if missing := sorted((wanted - there).elements()):
                yield f"room {room} with head {head} has no {name} {_some(missing)}"
            if extra := sorted((there - wanted).elements()):
                yield f"room {room} with head {head} has too many of {name} {_some(extra)}"


def _misheard(reader: str, heard: Heard, head: int, entries: list[Entry]) -> Iterator[str]:
    by_rev = {entry.rev: entry for entry in entries}
    last = heard.start
    for told in heard.entries:
        if told.rev != last + 1:
            yield f"{reader} was told rev {told.rev} after rev {last}"
        if told != by_rev.get(told.rev):
            yield f"{reader} was told {told}, and stored is {by_rev.get(told.rev)}"
        last = told.rev
    if heard.complete and last != head:
        yield f"{reader} was told up to rev {last}, and the head is {head}"


def _some(numbers: Iterable[int]) -> str:
    numbers = list(numbers)
    more = [f"and {len(numbers) - 10} more"] if len(numbers) > 10 else []
    return ", ".join(chain(map(str, numbers[:10]), more))
