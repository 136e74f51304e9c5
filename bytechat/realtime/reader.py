"""Reading one socket, in its one greenlet: from bytes to whole messages, in turns with others.

simple-websocket's inbox has no bound, and its reader would be a second greenlet of 13 KiB for each
socket.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic

from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from .closing import Code
from .connection import Connection
from .framing import pong_frame
from .turns import TURN_SECONDS, give_way

RECEIVE_BYTES = 16_384

#: Frames of one peer before it is the others' turn: 1 to 2 ms, if they are small ones.
FRAMES_IN_A_TURN = 64

#: What is handed up: a text message, or None for a binary one.
Receiver = Callable[[str | None], None]


class Reader:
    """Reads a connection's socket until it ends. ``frame_max`` is in bytes, 0 is no limit."""

    __slots__ = ("_connection", "_frame_max", "_parts", "_protocol", "_size")

    def __init__(self, connection: Connection, frame_max: int) -> None:
        self._connection = connection
        self._frame_max = frame_max
        self._protocol = Protocol(ConnectionType.SERVER)
        # Of a text message that is still arriving. Idle sockets need no list, and there are many.
        self._parts: list[str] | None = None
        self._size = 0  # of a message that is still arriving, in bytes

    def serve(self, receive: Receiver, first: bytes = b"") -> None:
        """Read until either side has closed, then close the socket.

        Each message is handed to ``receive``, one at a time. ``first`` is what has been read of the
        socket before.

        No more is read before ``receive`` has returned. gevent's recv() lets nobody else run while
        there is something to read, so a peer that floods would have the worker for itself: after
        some frames it is the others' turn, and TCP holds the peer back.
        """
        connection = self._connection
        turn = 0
        try:
            data = first or connection.sock.recv(RECEIVE_BYTES)
            while data:
                began = monotonic()
                # Any byte is life (Autobahn 9.3.1); and while the reader is held back nobody can
                # say that the peer is silent.
                connection.heard_at = inf
                self._protocol.receive_data(data)
                turn += 1
                for event in self._protocol.events():
                    if self._handle(event, receive):
                        return
                    turn += 1
                    if turn % FRAMES_IN_A_TURN == 0 or monotonic() - began > TURN_SECONDS:
                        give_way()
                        began = monotonic()
                connection.heard_at = monotonic()
                if turn >= FRAMES_IN_A_TURN:
                    turn = 0
                    give_way()
                data = connection.sock.recv(RECEIVE_BYTES)
        except OSError:
            pass  # cut off: as good as an end
        finally:
            connection.end()

    def _handle(self, event: Event, receive: Receiver) -> bool:
        """Act on an event; True if it was the peer's close frame."""
        connection = self._connection
        if isinstance(event, CloseConnection):
            if self._protocol.state is ConnectionState.OPEN:  # no frame: the parser has given up
                connection.close(Code(event.code), event.reason or "")
                return False
            connection.answer_close(event.code)
            return True
        if connection.closing:
            return False
        if isinstance(event, (TextMessage, BytesMessage)):
            self._gather(event, receive)
        elif isinstance(event, Ping):
            connection.push(pong_frame(event.payload))
        return False

    def _gather(self, event: TextMessage | BytesMessage, receive: Receiver) -> None:
        """Put the parts of a message together, counting bytes and not characters."""
        data = event.data
        if isinstance(data, str):
            self._size += len(data) if data.isascii() else len(data.encode())
        else:
            self._size += len(data)
        if self._frame_max and self._size > self._frame_max:
            self._parts = None
            sentence = f"a message has at most {self._frame_max} bytes"
            self._connection.close(Code.TOO_BIG, sentence)
            return
        if isinstance(data, str) and data:
            self._parts = self._parts or []
            self._parts.append(data)
        if event.message_finished:
            text = "".join(self._parts or ()) if isinstance(event, TextMessage) else None
            self._parts = None
            self._size = 0
            receive(text)
