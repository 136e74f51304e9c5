"""One open socket: who is behind it, and the one outbox through which it is written to and closed.

flask-sock has done the handshake; from there on nothing of simple-websocket is used. Its sends
ignore a short write and may come from two greenlets at once (flask-sock#85, simple-websocket#45).
Its Reader reads it.
"""

from __future__ import annotations

import _thread
import socket
from collections import deque
from contextlib import AbstractContextManager, suppress
from itertools import islice
from threading import Event
from time import monotonic
from typing import Any

from .closing import Code
from .framing import close_frame

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


class Connection:
    """One open socket and who is behind it.

    ``owner`` and ``token`` are ids for the hub to find it by; ``expires_at`` is when the token
    ends, in seconds of the epoch. ``sock`` is for the Reader to read. ``outbox_max`` is in bytes, 0
    is no limit. ``lock`` guards what may be written; nothing waits while it is held.
    """

    __slots__ = (
        "_deadline",
        "_emptied",
        "_inflight",
        "_lock",
        "_opened",
        "_outbox",
        "_outbox_max",
        "_raw",
        "_waiting",
        "_writing",
        "close_code",
        "closing",
        "expires_at",
        "heard_at",
        "owner",
        "pinged_at",
        "sock",
        "token",
    )

    def __init__(
        self,
        sock: socket.socket,
        *,
        owner: int,
        token: str | None,
        expires_at: float,
        outbox_max: int,
        lock: AbstractContextManager[Any],
    ) -> None:
        self.owner = owner
        self.token = token
        self.expires_at = expires_at
        self.heard_at = self.pinged_at = monotonic()
        #: The code that the socket was closed with, once it is.
        self.close_code: int = Code.ABNORMAL
        self.sock = sock
        # gevent's socket waits in send() until there is room; the one inside it answers at once.
        self._raw: Any = getattr(sock, "_sock", sock)
        self._lock = lock  # guards what follows
        self._outbox: deque[bytes | memoryview] = deque()
        self._outbox_max = outbox_max
        self._waiting = 0  # bytes in the outbox, and what keeping them costs
        self._inflight = 0  # chunks at its head that the writer has handed to the kernel
        self._writing = False
        self._emptied: Event | None = None  # when the Reader waits for it
        self._opened = False
        #: Whether a close frame was sent, or the end was found: nothing more is written.
        self.closing = False
        self._deadline = 0.0

    # Any greenlet may call these but flush() and end(), which are the Reader's. Only flush() waits.

    def open(self, first: bytes) -> None:
        """Begin to send: ``first``, then whatever has been pushed until now."""
        with self._lock:
            if self.closing:
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
            if not self.closing:
                self._put(*chunks)

    def flush(self) -> None:
        """Wait until the peer has taken what it was sent; one that takes nothing is closed (4408).

        No more is read meanwhile.
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
            if not self.closing:
                if not self._opened:
                    self._outbox.clear()
                    self._opened = True
                self._put(close_frame(code, reason))
            if not self.closing:  # unless just that was too much for the outbox
                self._shut(code, CLOSE_SECONDS)

    def answer_close(self, code: int) -> None:
        """Answer the peer's close frame with its own code, unless it answers ours."""
        with self._lock:
            if not self.closing:
                self.close_code = int(code)
                self._put(close_frame(code))

    def end(self) -> None:
        """Close the socket, when it is read no more."""
        with self._lock:
            self.closing = True
            self._outbox.clear()
        with suppress(OSError):
            self._raw.shutdown(socket.SHUT_WR)
        self.sock.close()

    def overdue(self, moment: float) -> bool:
        """Whether the peer has not answered our close frame in time (``moment`` is monotonic)."""
        return self.closing and moment > self._deadline

    def abandon(self) -> None:
        """Cut the socket; the Reader wakes up and ends."""
        with self._lock:
            self._cut()

    def _cut(self) -> None:
        """With the lock held."""
        self.closing = True
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
        self._outbox.append(close_frame(Code.TOO_SLOW, "too slow: reconnect and resume"))
        self._waiting = sum(len(chunk) + CHUNK_COST for chunk in self._outbox)
        self._opened = True
        self._shut(Code.TOO_SLOW, TOO_SLOW_SECONDS)

    def _shut(self, code: Code, seconds: float) -> None:
        self.closing = True
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
                sent = self.sock.sendmsg(chunks)  # waits for room
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
