"""The sockets of a World: what is under way in one is what nobody has taken or read yet."""

from __future__ import annotations

import itertools
import socket
from collections import deque
from collections.abc import Iterator
from threading import Lock
from typing import TypeVar, cast

import msgspec

from bytechat import storage
from bytechat.chat import rooms
from bytechat.chat import socket as chat_socket
from bytechat.chat.handshake import Admission
from bytechat.chat.peer import Peer
from bytechat.realtime.connection import Connection

from .world import Worker

T = TypeVar("T")


class Wire:
    """In place of the socket of a Connection: takes all, until it is cut."""

    def __init__(self) -> None:
        self.down: deque[bytes] = deque()  # payloads that the device has not taken
        self.up: deque[str] = deque()  # payloads that the worker has not read
        self.pushed: list[tuple[int, int]] = []  # room and rev of each message that was written
        self.is_cut = False

    def send(self, data: bytes, _flags: int) -> int:
        if self.is_cut:
            raise ConnectionResetError
        rest = memoryview(data)
        while rest:
            payload, rest = _split(rest)
            self.down.append(payload)
            fields = msgspec.json.decode(payload)
            if fields["type"] == "message":
                self.pushed.append((fields["room"], fields["rev"]))
        return len(data)

    def sendmsg(self, chunks: list[bytes], _ancillary: object, flags: int) -> int:
        return self.send(b"".join(chunks), flags)


def _split(data: memoryview) -> tuple[bytes, memoryview]:
    """The payload of a server's text frame, and what comes after it."""
    assert data[0] == 0x81
    size, start = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4]), 4)
    assert data[1] < 127
    return bytes(data[start : start + size]), data[start + size :]


class Line:
    """One socket, from the handshake until its worker has noticed the end, which may be late."""

    def __init__(self, worker: Worker, user: int) -> None:
        self.wire = Wire()
        self.connection = Connection(
            cast("socket.socket", self.wire),
            owner=user,
            token=None,
            expires_at=0,
            outbox_max=0,
            lock=Lock(),
        )
        self._worker = worker
        with worker.app.app_context(), storage.reading() as db:
            # Their sessions have the numbers of the people.
            found = rooms.admitted_by(db, user, user, "", rooms.Crowds())
        self._admission = Admission(*found, expires_at=0)
        #: By room, where the pushes begin; empty before the line is joined.
        self.heads: dict[int, int] = {}
        self.peer: Peer | None = None

    def advance(self) -> bool:
        """The next thing that the worker does for it; whether there was one."""
        if not self.heads:
            heads = {room.id: room.head for room in self._admission.rooms}
            self.heads = self._worker.hub.join(self.connection, heads)
        elif self.peer is None:
            worker = self._worker.runtime
            hello = chat_socket._hello(self._admission, self.heads, worker)
            worker.welcome(self.connection, hello)
            self.peer = Peer(self.connection, self._admission, worker)
        else:
            return False
        return True

    @property
    def readable(self) -> bool:
        """Whether the worker has something to read."""
        return self.peer is not None and bool(self.wire.up)

    def read(self, number: int = 1) -> None:
        """The worker reads some of what the device has sent."""
        for text in first(self.wire.up, number if self.peer else 0):
            assert self.peer
            self.peer.receive(text)

    def cut(self) -> None:
        """What was written and not taken is lost; what was sent may still be read."""
        self.wire.is_cut = True
        self.wire.down.clear()

    def end(self) -> None:
        """The worker has noticed that it is cut."""
        if self.heads:
            self._worker.hub.leave(self.connection, self.heads)

    def skipped(self) -> list[tuple[int, int]]:
        """Room and rev of what was not pushed between its beginning and what was pushed last."""
        skipped = []
        for room, head in self.heads.items():
            revs = [rev for where, rev in self.wire.pushed if where == room]
            for before, rev in itertools.pairwise([head, *revs]):
                assert before < rev, "pushed twice, or late"
                skipped += [(room, missing) for missing in range(before + 1, rev)]
        return skipped


def first(queue: deque[T], number: int) -> Iterator[T]:
    """Take as many off the queue as are there."""
    for _ in range(number):
        if queue:
            yield queue.popleft()
