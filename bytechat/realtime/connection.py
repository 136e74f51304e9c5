"""One WebSocket: it owns its socket, reads it in its one greenlet, and has the one outbox.

flask-sock has done the handshake; from there on nothing of simple-websocket is used. Its sends
ignore a short write and may come from two greenlets at once (flask-sock#85, simple-websocket#45),
its inbox has no bound, and its reader would be a second greenlet of 13 KiB for each connection.
"""

from __future__ import annotations

import _thread
import socket
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import islice
from math import inf
from threading import Event
from time import monotonic
from typing import Any

from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Event as Received
from wsproto.frame_protocol import FrameProtocol

from .closing import Code
from .turns import TURN_SECONDS, give_way

RECEIVE_BYTES = 16_384

#: Frames of one peer before it is the others' turn: 1 to 2 ms, if they are small ones.
FRAMES_IN_A_TURN = 64

#: What keeping a chunk in the outbox costs beside its bytes.
CHUNK_COST = 64

#: Chunks of the outbox in one system call; the kernel takes 1,024 at most (IOV_MAX).
CHUNKS_AT_ONCE = 64

#: Seconds that a peer has to answer our close frame before its socket is shut down.
CLOSE_SECONDS = 0.5

#: The same for a peer that was too slow: the close frame waits behind what fills its buffers, and
#: is worth waiting for, as 4408 tells it to resume.
TOO_SLOW_SECONDS = 10.0

#: Seconds without progress after which a peer that we wait for is stalled.
STALLED_SECONDS = 10.0

# A server's frames have no mask and no extension, so encoding them needs no connection's state.
_encoder = FrameProtocol(client=False, extensions=[])

PING = bytes(_encoder.ping())

#: What a connection hands up: a text message, or None for a binary one.
Receiver = Callable[[str | None], None]


def text_frame(payload: bytes) -> bytes:
    """One unfragmented text frame of a server (RFC 6455, section 5.2); ``payload`` is UTF-8."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class Connection:
    """One open socket and who is behind it.

    ``owner`` and ``token`` are ids for the hub to find it by; ``expires_at`` is when the token
    ends, in seconds of the epoch. ``frame_max`` and ``outbox_max`` are in bytes, 0 is no limit.
    ``lock`` guards what may be written; nothing waits while it is held.
    """

    __slots__ = (
        "_closing",
        "_deadline",
        "_emptied",
        "_frame_max",
        "_inflight",
        "_lock",
        "_opened",
        "_outbox",
        "_outbox_max",
        "_parts",
        "_protocol",
        "_raw",
        "_size",
        "_sock",
        "_waiting",
        "_writing",
        "close_code",
        "expires_at",
        "heard_at",
        "owner",
        "pinged_at",
        "token",
    )

    def __init__(
        self,
        sock: socket.socket,
        *,
        owner: int,
        token: str | None,
        expires_at: float,
        frame_max: int,
        outbox_max: int,
        lock: AbstractContextManager[Any],
    ) -> None:
        self.owner = owner
        self.token = token
        self.expires_at = expires_at
        self.heard_at = self.pinged_at = monotonic()
        #: The code that the socket was closed with, once it is.
        self.close_code: int = Code.ABNORMAL
        self._sock = sock
        # gevent's socket waits in send() until there is room; the one inside it answers at once.
        self._raw: Any = getattr(sock, "_sock", sock)
        self._protocol = Protocol(ConnectionType.SERVER)
        self._frame_max = frame_max
        self._parts: list[str] = []  # of a text message that is still arriving
        self._size = 0  # of a message that is still arriving, in bytes
        self._lock = lock  # guards what follows
        self._outbox: deque[bytes | memoryview] = deque()
        self._outbox_max = outbox_max
        self._waiting = 0  # bytes in the outbox, and what keeping them costs
        self._inflight = 0  # chunks at its head that the writer has handed to the kernel
        self._writing = False
        self._emptied: Event | None = None  # when the reader waits for it
        self._opened = False
        self._closing = False
        self._deadline = 0.0

    # Writing: any greenlet may call these; none of them waits.

    def open(self, first: bytes) -> None:
        """Begin to send: ``first``, then whatever has been pushed until now."""
        with self._lock:
            if self._closing:
                return
            held = b"".join([first, *self._outbox])
            self._outbox.clear()
            self._waiting = 0
            self._opened = True
            self._put(held)

    def push(self, *chunks: bytes) -> None:
        """Send whole frames, or keep them in the outbox; one that overflows closes with 4408.

        Chunks are kept as they are, so that many connections may share them.
        """
        with self._lock:
            if not self._closing:
                self._put(*chunks)

    def flush(self) -> None:
        """Wait until the peer has taken what it was sent; one that takes nothing is closed (4408).

        For the reader alone, which reads no more meanwhile.
        """
        with self._lock:
            if not self._outbox:
                return
            self._emptied = emptied = Event()
            waiting = self._waiting
        while not emptied.wait(STALLED_SECONDS):
            if self._waiting >= waiting:
                self.close(Code.TOO_SLOW, "nothing was taken: reconnect and resume")
            waiting = self._waiting

    def close(self, code: Code, reason: str = "") -> None:
        """Send a close frame, once, after all that was pushed before it."""
        with self._lock:
            if not self._closing:
                if not self._opened:
                    self._outbox.clear()
                    self._opened = True
                self._put(bytes(_encoder.close(code, reason)))
            if not self._closing:  # unless just that was too much for the outbox
                self._shut(code, CLOSE_SECONDS)

    def overdue(self, moment: float) -> bool:
        """Whether the peer has not answered our close frame in time (``moment`` is monotonic)."""
        return self._closing and moment > self._deadline

    def abandon(self) -> None:
        """Cut the socket; the reader wakes up and ends."""
        with self._lock:
            self._cut()

    def _cut(self) -> None:
        """With the lock held."""
        self._closing = True
        self._outbox.clear()
        self._tell_emptied()
        with suppress(OSError):
            self._raw.shutdown(socket.SHUT_RDWR)

    def _put(self, *chunks: bytes) -> None:
        """Write what the socket takes at once, keep the rest in order. Call with the lock held."""
        sent = self._send(chunks) if self._opened and not self._outbox else 0
        for chunk in chunks:
            if sent < len(chunk):
                self._outbox.append(memoryview(chunk)[sent:] if sent else chunk)
                self._waiting += len(chunk) - sent + CHUNK_COST
            sent = max(0, sent - len(chunk))
        if not self._outbox:
            return
        if self._outbox_max and self._waiting > self._outbox_max:
            self._overflow()
        if self._opened and not self._writing:
            self._writing = True
            # Not threading.Thread, whose start() waits for the new greenlet to run.
            _thread.start_new_thread(self._write, ())

    def _send(self, chunks: tuple[bytes, ...]) -> int:
        """Write without waiting; how many bytes are dealt with. With the lock held."""
        try:
            if len(chunks) == 1:
                return int(self._raw.send(chunks[0], socket.MSG_DONTWAIT))
            return int(self._raw.sendmsg(chunks[:CHUNKS_AT_ONCE], (), socket.MSG_DONTWAIT))
        except BlockingIOError:
            return 0
        except ConnectionError:
            pass  # the peer is gone; its last words may still be read
        except OSError:
            self._cut()  # these frames are lost, and no others may follow them
        return sum(len(chunk) for chunk in chunks)

    def _overflow(self) -> None:
        """Drop what the peer is too slow for, except what may be half sent. With the lock held."""
        kept = max(1, self._inflight)
        while len(self._outbox) > kept:
            self._outbox.pop()
        self._outbox.append(bytes(_encoder.close(Code.TOO_SLOW, "too slow: reconnect and resume")))
        self._waiting = sum(len(chunk) + CHUNK_COST for chunk in self._outbox)
        self._opened = True
        self._shut(Code.TOO_SLOW, TOO_SLOW_SECONDS)

    def _shut(self, code: Code, seconds: float) -> None:
        self._closing = True
        self.close_code = code
        self._deadline = monotonic() + seconds

    def _write(self) -> None:
        """Empty the outbox; runs only while there is something in it."""
        try:
            while True:
                with self._lock:
                    chunks = list(islice(self._outbox, CHUNKS_AT_ONCE))
                    self._inflight = len(chunks)
                    if not chunks:
                        self._writing = False
                        self._tell_emptied()
                        return
                sent = self._sock.sendmsg(chunks)  # waits for room
                with self._lock:
                    self._discard(sent)
        except OSError:
            self.abandon()

    def _tell_emptied(self) -> None:
        if self._emptied:
            self._emptied.set()
            self._emptied = None

    def _discard(self, sent: int) -> None:
        """Take ``sent`` bytes off the head of the outbox. With the lock held."""
        while sent and self._outbox:
            head = self._outbox[0]
            if sent < len(head):
                self._outbox[0] = memoryview(head)[sent:]
                self._waiting -= sent
                return
            sent -= len(head)
            self._waiting -= len(head) + CHUNK_COST
            self._outbox.popleft()

    # Reading: one greenlet alone.

    def serve(self, receive: Receiver, first: bytes = b"") -> None:
        """Read until either side has closed, then close the socket.

        Each message is handed to ``receive``, one at a time. ``first`` is what has been read of the
        socket before.

        No more is read before ``receive`` has returned. gevent's recv() lets nobody else run while
        there is something to read, so a peer that floods would have the worker for itself: after
        some frames it is the others' turn, and TCP holds the peer back.
        """
        turn = 0
        try:
            data = first or self._sock.recv(RECEIVE_BYTES)
            while data:
                began = monotonic()
                # Any byte is life (Autobahn 9.3.1); and while the reader is held back nobody can
                # say that the peer is silent.
                self.heard_at = inf
                self._protocol.receive_data(data)
                turn += 1
                for event in self._protocol.events():
                    if self._handle(event, receive):
                        return
                    turn += 1
                    if turn % FRAMES_IN_A_TURN == 0 or monotonic() - began > TURN_SECONDS:
                        give_way()
                        began = monotonic()
                self.heard_at = monotonic()
                if turn >= FRAMES_IN_A_TURN:
                    turn = 0
                    give_way()
                data = self._sock.recv(RECEIVE_BYTES)
        except OSError:
            pass  # cut off: as good as an end
        finally:
            with self._lock:
                self._closing = True
                self._outbox.clear()
            with suppress(OSError):
                self._raw.shutdown(socket.SHUT_WR)
            self._sock.close()

    def _handle(self, event: Received, receive: Receiver) -> bool:
        """Act on an event; True if it was the peer's close frame."""
        if isinstance(event, CloseConnection):
            if self._protocol.state is ConnectionState.OPEN:  # no frame: the parser has given up
                self.close(Code(event.code), event.reason or "")
                return False
            self._answer_close(event)
            return True
        if self._closing:
            return False
        if isinstance(event, (TextMessage, BytesMessage)):
            self._gather(event, receive)
        elif isinstance(event, Ping):
            self.push(bytes(_encoder.pong(event.payload)))
        return False

    def _gather(self, event: TextMessage | BytesMessage, receive: Receiver) -> None:
        """Put the parts of a message together, counting bytes and not characters."""
        data = event.data
        if isinstance(data, str):
            self._size += len(data) if data.isascii() else len(data.encode())
        else:
            self._size += len(data)
        if self._frame_max and self._size > self._frame_max:
            self._parts.clear()
            self.close(Code.TOO_BIG, f"a message has at most {self._frame_max} bytes")
            return
        if isinstance(data, str) and data:
            self._parts.append(data)
        if event.message_finished:
            text = "".join(self._parts) if isinstance(event, TextMessage) else None
            self._parts.clear()
            self._size = 0
            receive(text)

    def _answer_close(self, event: CloseConnection) -> None:
        with self._lock:
            if not self._closing:
                self.close_code = int(event.code)
                self._put(bytes(_encoder.close(event.code)))
