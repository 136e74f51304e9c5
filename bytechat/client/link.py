"""The connection that comes back: one thread connects and reads, another one writes."""

from __future__ import annotations

import copy
import logging
import ssl
import threading
import time
from collections.abc import Callable

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .conversation import Conversation
from .errors import Closed, GaveUp
from .events import Disconnected
from .retry import Backoff, End, judge, wait_after

SUBPROTOCOL = "bytechat.v1"

#: Seconds for a connection with its handshake, and again until its hello.
OPEN_SECONDS = 10.0
#: Seconds in which one frame must go into the socket's buffer: a dead peer takes nothing.
SEND_SECONDS = 20.0
#: Seconds that the server has for its half of the closing.
CLOSE_SECONDS = 2.0
#: Bytes of a frame from the server: a page of a sync is much larger than what clients may send.
FRAME_MAX = 64 * 1024 * 1024
#: Seconds after which a connection was a good one, and the next pause is short again.
STABLE_SECONDS = 15.0

logger = logging.getLogger("bytechat.client")
# The library's own lines for DEBUG show the request's headers, and the token is one of them.
_socket_logger = logging.getLogger("bytechat.client.socket")
_socket_logger.setLevel(logging.WARNING)


class Link:
    """Carries a conversation over one socket after the other. ``lock`` guards the conversation.

    No lock is held while something is sent, or while a handle's callbacks run.
    """

    def __init__(
        self,
        ws_url: str,
        token: str,
        conversation: Conversation,
        *,
        ping_every: float,
        context: ssl.SSLContext | None,
    ) -> None:
        self._ws_url = ws_url
        self._token = token
        self._conversation = conversation
        self._ping_every = ping_every
        self._context = context
        self.lock = threading.RLock()
        #: For the writer: something is to be sent, or the connection is another one.
        self._outgoing = threading.Condition(self.lock)
        #: For the program: something was received or settled.
        self._incoming = threading.Condition(self.lock)
        #: The one that may be written to; None before its hello.
        self._socket: ClientConnection | None = None
        #: The one that is open, with hello or without.
        self._open: ClientConnection | None = None
        #: Why nothing goes on any more.
        self.over: GaveUp | Closed | None = None
        self._threads = [
            threading.Thread(target=self._read, name="bytechat-reader", daemon=True),
            threading.Thread(target=self._write, name="bytechat-writer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def up(self) -> bool:
        return self._socket is not None

    @property
    def is_this_thread(self) -> bool:
        return threading.current_thread() in self._threads

    def wait(self, ready: Callable[[], object], timeout: float | None) -> bool:
        """Under the lock, wait for something or the end (seconds). Raises GaveUp, Closed.

        Returns whether it is ready; what is ready counts before the end.
        """
        self._incoming.wait_for(lambda: ready() or self.over, timeout)
        if ready():
            return True
        if self.over:
            raise copy.copy(self.over)  # its own: each thread that raises adds a traceback
        return False

    def wake(self) -> None:
        """Under the lock: there may be something to send."""
        self._outgoing.notify()

    def close(self) -> None:
        """End. Handles get Closed, and the threads are gone afterwards."""
        with self.lock:
            self._end(Closed("The client was closed."))
            socket = self._open
        self._tell()
        if socket is not None:
            socket.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _end(self, error: GaveUp | Closed) -> None:
        """Under the lock: nothing goes on after this."""
        self.over = self.over or error
        self._conversation.outbox.fail(self.over)
        self._outgoing.notify_all()
        self._incoming.notify_all()

    def _tell(self) -> None:
        """Tell the handles what has become of them."""
        with self.lock:
            settled = self._conversation.outbox.settled()
        for tell in settled:
            tell()

    def _read(self) -> None:
        """The first thread."""
        backoff = Backoff()
        while True:
            end = self._connection(backoff)
            with self.lock:
                if not self.over:
                    self._pause(end, backoff)
                over = self.over
            if over:
                self._tell()
                return

    def _pause(self, end: End, backoff: Backoff) -> None:
        """Under the lock, wait until the next try; or give up."""
        if end.fatal:
            logger.warning("gave up: %s", end.fatal)
            self._end(end.fatal)
            return
        wait = wait_after(end, backoff)
        logger.info("disconnected: %s; again in %.1f s", end.reason, wait)
        self._conversation.tell(Disconnected(end.reason, end.code, wait))
        self._incoming.notify_all()
        self._incoming.wait_for(lambda: self.over, wait)

    def _connection(self, backoff: Backoff) -> End:
        """One connection from the handshake to the end; why it ended."""
        self._conversation.goodbye = None
        began = time.monotonic()
        greeted = False
        try:
            with self._connect() as socket:
                socket.socket.settimeout(SEND_SECONDS)
                with self.lock:
                    if self.over:
                        return End("closed")
                    self._open = socket
                while True:
                    left = None if greeted else began + 2 * OPEN_SECONDS - time.monotonic()
                    greeted = self._receive(socket, socket.recv(left, decode=False))
        except GaveUp as error:
            return End(str(error), fatal=error)
        except Exception as error:
            return judge(error, self._conversation.goodbye)
        finally:
            with self.lock:
                self._socket = self._open = None
            if greeted and time.monotonic() - began > STABLE_SECONDS:
                backoff.reset()

    def _connect(self) -> ClientConnection:
        return connect(
            self._ws_url,
            additional_headers={"Authorization": f"Bearer {self._token}"},
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=self._ping_every,
            ping_timeout=self._ping_every,
            max_size=FRAME_MAX,
            logger=_socket_logger,
            ssl=self._context if self._ws_url.startswith("wss:") else None,
        )

    def _receive(self, socket: ClientConnection, data: bytes) -> bool:
        """Take one frame; whether hello has come on this connection."""
        with self.lock:
            before = self._conversation.hello
            self._conversation.receive(data, time.monotonic())
            if self._conversation.hello is not before:
                self._socket = socket
            self._incoming.notify_all()
            self._outgoing.notify()
            greeted = self._socket is not None
        self._tell()
        return greeted

    def _write(self) -> None:
        """The second thread."""
        while True:
            with self.lock:
                socket, frame = self._next_frame()
            self._tell()  # what was too long to be sent
            if socket is None:
                return
            if frame is None:
                continue
            try:
                socket.send(frame, text=True)
            except (ConnectionClosed, OSError):
                # The reader finds out why. What was not sent goes out on the next connection.
                with self.lock:
                    if self._socket is socket:
                        self._socket = None

    def _next_frame(self) -> tuple[ClientConnection | None, bytes | None]:
        """Under the lock, wait for a frame, and for a socket to send it on; None is the end."""
        while self.over is None:
            due = None
            if self._socket is not None:
                now = time.monotonic()
                frame = self._conversation.next_frame(now)
                if frame or self._conversation.outbox.has_settled:
                    return self._socket, frame
                due = self._conversation.due(now)
            self._outgoing.wait(due)
        return None, None
