"""One of the many in a storm: it comes back by itself, and asks for what it has missed."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from contextlib import suppress

from bytechat.client.retry import Backoff

from . import wire

READ_BYTES = 1 << 18
_nowhere = memoryview(bytearray(1 << 22))

_HEAD = re.compile(rb'"head":(\d+)')
_REV = re.compile(rb'"rev":(\d+)')
_TYPE = b'{"type":"'


class Device:
    """Somebody's device: it comes back by itself, and knows up to which rev it has everything."""

    def __init__(self, number: int, request: Callable[[int], bytes]) -> None:
        self.number = number
        self.request = request
        self.sock: socket.socket | None = None
        self.port = 0
        self.backoff = Backoff()
        #: Everything up to this rev is here; some that came early are beyond it.
        self.have: int | None = None
        self._ahead: set[int] = set()
        self._buffer = bytearray()
        self._greeted = self._shaken = self.asked = False
        #: Does not keep what arrives: before the storm, where only the number of bytes is large.
        self.deaf = False
        self._target = 0
        self.back_at = self.complete_at = 0.0
        self.attempts = 0
        #: Its sync was refused: how often, and when to ask again.
        self.refused = 0
        self.ask_again_at: float | None = None

    @property
    def talking(self) -> bool:
        return self._greeted

    def dial(self, port: int) -> socket.socket:
        """Begin to connect. Raises OSError."""
        self.attempts += 1
        self.port = port
        self._buffer.clear()
        self._shaken = self._greeted = self.asked = False
        self.sock = sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if sock.connect_ex(("127.0.0.1", port)) not in (0, 115):  # EINPROGRESS
            raise ConnectionError
        return sock

    def hang_up(self) -> None:
        self._greeted = self._shaken = False
        if self.sock:
            self.sock.close()
            self.sock = None

    def read(self, moment: float) -> int:
        """Take what has arrived, and how many bytes that is. Raises OSError when it is over."""
        assert self.sock
        if self.deaf and self._greeted:
            octets = self.sock.recv_into(_nowhere, 0, socket.MSG_TRUNC)
            if not octets:
                raise ConnectionError
            return octets
        data = self.sock.recv(READ_BYTES)
        if not data:
            raise ConnectionError
        self._buffer += data
        if not self._shaken:
            head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not end:
                return len(data)
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionError
            self._shaken = True
            self._buffer[:] = rest
        for opcode, payload in wire.frames(self._buffer):
            if opcode == wire.CLOSE:
                raise ConnectionError
            self._take(payload, moment)
        return len(data)

    def _take(self, payload: bytes, moment: float) -> None:
        kind = payload[len(_TYPE) : len(_TYPE) + 4]
        if kind == b"hell":
            found = _HEAD.search(payload)
            assert found
            self._greet(int(found[1]), moment)
        elif kind in (b"mess", b"sync"):
            assert self.have is not None
            self._ahead.update(map(int, _REV.findall(payload)))
            while self.have + 1 in self._ahead:
                self.have += 1
                self._ahead.discard(self.have)
            if kind == b"sync" and b'"more":true' in payload[-200:]:
                self._sync()
            self._look(moment)
        elif kind == b"erro":
            self.refused += 1
            self.ask_again_at = moment + float(json.loads(payload).get("retry_after") or 1)
        elif kind == b"rese":
            raise AssertionError("the storm has lasted for more messages than a sync may have")

    def _greet(self, head: int, moment: float) -> None:
        self._greeted = True
        self.backoff.reset()
        self.back_at = moment
        if self.have is None:
            self.have = head
        self._target = head
        if head > self.have:
            self._sync()
        self._look(moment)

    def ask_again(self, moment: float) -> None:
        """Do what a refusal has said, when it is time."""
        if self._greeted and self.ask_again_at and moment >= self.ask_again_at:
            self.ask_again_at = None
            self._sync()

    def _sync(self) -> None:
        frame = {"type": "sync", "room": "lobby", "since": self.have}
        self.send(wire.masked(json.dumps(frame).encode()))

    def _look(self, moment: float) -> None:
        assert self.have is not None
        if self._greeted and not self.complete_at and self.have >= self._target:
            self.complete_at = moment

    def wait_again(self) -> None:
        """Be one that has not come back."""
        self.back_at = self.complete_at = 0.0
        self.attempts = self.refused = 0
        self.ask_again_at = None

    def listen(self) -> None:
        """Keep what arrives from here on: nothing is under way."""
        self.deaf = False
        self._buffer.clear()

    def send(self, frame: bytes) -> None:
        assert self.sock
        with suppress(OSError):  # the next read says so too
            self.sock.sendall(frame)  # some hundred bytes, which an idle socket always takes
