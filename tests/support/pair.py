"""A connection with its reader at one end of a pair of sockets, and a peer at the other."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable
from threading import Lock, Thread
from time import monotonic, sleep
from typing import cast

from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionType
from wsproto.events import Event, TextMessage

from bytechat.realtime.connection import Connection
from bytechat.realtime.reader import Reader

from .raw import CLOSE, encode

SECONDS = 5.0


class GreenletSocket:
    """As gevent's sockets: the one inside answers at once; this one waits, and may send a part."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._sock.recv(size)
            except BlockingIOError:
                select.select([self._sock], [], [])

    def close(self) -> None:
        self._sock.close()

    def sendmsg(self, chunks: list[bytes]) -> int:
        while True:
            try:
                return self._sock.sendmsg(chunks)
            except BlockingIOError:
                select.select([], [self._sock], [])


class HesitantSocket:
    """Sends a part, and lets all others run before it says so."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes, flags: int) -> int:
        sent = self._sock.send(data[:100], flags)
        sleep(0.001)
        return sent

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)


class Line:
    """A connection with its reader, and its peer at the other end of the line."""

    def __init__(self, *, greenlets: bool, frame_max: int = 0, outbox_max: int = 0) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(SECONDS)
        # The smallest that the kernel grants: a peer that does not read is soon felt.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.ours = ours
        self.connection = Connection(
            cast("socket.socket", GreenletSocket(ours)) if greenlets else ours,
            owner=1,
            token="jti",
            expires_at=float("inf"),
            outbox_max=outbox_max,
            lock=Lock(),
        )
        self.reader = Reader(self.connection, frame_max)
        self.received: list[str | None] = []
        self._thread = Thread(target=self.reader.serve, args=(self.received.append,))

    def serve(self) -> None:
        """Let the reader read, in a thread of its own."""
        self._thread.start()

    def ended(self) -> None:
        """Wait until the reader has ended."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        self.peer.sendall(encode(opcode, payload, fin=fin, rsv=rsv))

    def exactly(self, size: int) -> bytes:
        """The next bytes that the peer is sent."""
        data = b""
        while len(data) < size:
            more = self.peer.recv(min(65_536, size - len(data)))
            assert more, "the connection has hung up"
            data += more
        return data

    def frame(self) -> tuple[int, bytes]:
        """The next frame that the peer is sent: opcode and payload."""
        first, size = self.exactly(2)
        assert first & 0x80, "a server's frames are whole"
        if size == 126:
            (size,) = struct.unpack("!H", self.exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.exactly(8))
        assert size < 2**32, "a server does not mask, and nothing is torn"
        return first & 0x0F, self.exactly(size)

    def closed(self) -> int:
        """The code of the close frame, which must be the next one."""
        opcode, payload = self.frame()
        assert opcode == CLOSE
        return int(struct.unpack("!H", payload[:2])[0]) if payload else 1005

    def rest(self) -> bytes:
        """What the peer is still sent, until the end."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.peer.recv(65_536):
                data += more
        return data

    def hang_up(self) -> None:
        self.connection.abandon()
        if self._thread.is_alive():
            self._thread.join(SECONDS)
        self.ours.close()
        self.peer.close()


MakeLine = Callable[..., Line]


def events_of(stream: bytes) -> list[Event]:
    """The messages and the close frame in a server's stream, as wsproto's client reads it."""
    client = Protocol(ConnectionType.CLIENT)
    client.receive_data(stream)
    return list(client.events())


def texts_of(stream: bytes) -> list[str]:
    """The text messages of a server's stream, put together."""
    texts, parts = [], ""
    for event in events_of(stream):
        if isinstance(event, TextMessage):
            parts += event.data
            if event.message_finished:
                texts.append(parts)
                parts = ""
    assert not parts, "the stream ends within a frame"
    return texts


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = monotonic() + SECONDS
    while not condition():
        assert monotonic() < deadline, "it never came to pass"
        sleep(0.001)


def wait_until_quiet(line: Line) -> None:
    """Wait until the writer has filled the kernel's buffers and waits for the peer."""
    waiting, since = line.connection._waiting, monotonic()
    while monotonic() - since < 0.05:
        sleep(0.005)
        if line.connection._waiting != waiting:
            waiting, since = line.connection._waiting, monotonic()
