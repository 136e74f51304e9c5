"""The sockets of the load: most of them count what arrives, a few read it."""

from __future__ import annotations

import re
import socket
from time import monotonic_ns
from typing import Protocol

from . import wire

#: More than a socket is ever ahead; MSG_TRUNC never writes to it, so it costs no memory.
_nowhere = memoryview(bytearray(1 << 22))

READ_BYTES = 1 << 18

_REV = re.compile(rb'"rev":(\d+)')
_ACK = re.compile(rb'"client_id":"(\d+)"')


class Client(Protocol):
    """A socket that is in some rooms; ``octets`` and ``closed`` since the last ``reset``."""

    sock: socket.socket
    rooms: list[str]
    octets: int
    closed: bool

    def read(self) -> None:
        """Take what has arrived; the socket does not block."""

    def reset(self) -> None:
        """Count from zero."""


class Counted:
    """Counts bytes, which the kernel throws away (MSG_TRUNC, tcp(7)): nothing reads for less.

    All members of a room are sent the same bytes, so a sampled one tells how many messages those
    are.
    """

    def __init__(self, sock: socket.socket, rooms: list[str]) -> None:
        self.sock = sock
        self.rooms = rooms
        self.octets = 0
        self.closed = False
        self._recv_into = sock.recv_into

    def read(self) -> None:
        got = self._recv_into(_nowhere, 0, socket.MSG_TRUNC)
        self.octets += got
        self.closed = not got

    def reset(self) -> None:
        self.octets = 0


class Marked:
    """Counts messages by their marks, and acks: for senders, and where streams differ."""

    def __init__(self, sock: socket.socket, rooms: list[str]) -> None:
        self.sock = sock
        self.rooms = rooms
        self.closed = False
        #: What is still to be written, after a send that took only a part.
        self.unsent = b""
        self._tail = b""
        self.reset()

    def reset(self) -> None:
        self.octets = self.marks = self.acks = 0

    def read(self) -> None:
        data = self.sock.recv(READ_BYTES)
        self.octets += len(data)
        self.closed = not data
        self.take(data)

    def take(self, data: bytes) -> None:
        data = self._tail + data
        self.marks += data.count(wire.MARK)
        self.acks += data.count(wire.ACK)
        self._tail = data[-len(wire.MARK) + 1 :]  # one short, so that none is counted twice

    def say(self, frames: bytes) -> bool:
        """Send, as much as the socket takes; False while something older is unsent."""
        self.flush()
        if self.unsent:
            return False
        self.unsent = self._send(frames)
        return True

    def flush(self) -> None:
        """Send what was left unsent."""
        if self.unsent:
            self.unsent = self._send(self.unsent)

    def _send(self, data: bytes) -> bytes:
        try:
            return data[self.sock.send(data) :]
        except BlockingIOError:
            return data
        except OSError:
            self.closed = True
            return b""


class Sampled(Marked):
    """Reads every frame: latencies, the order of each sender's messages, gaps in a room's revs."""

    def __init__(self, sock: socket.socket, rooms: list[str]) -> None:
        self.close_code = 0
        self._buffer = bytearray()
        super().__init__(sock, rooms)

    def reset(self) -> None:
        super().reset()
        #: Milliseconds from the sending of a message to its arrival here, and to its ack.
        self.latencies: list[float] = []
        self.ack_latencies: list[float] = []
        self.disorder = self.gaps = 0
        self._newest: dict[int, int] = {}
        self._rev = 0

    def take(self, data: bytes) -> None:
        now = monotonic_ns()
        self._buffer += data
        for opcode, payload in wire.frames(self._buffer):
            if opcode == wire.CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big")
            elif (place := payload.find(wire.MARK)) >= 0:
                self._message(payload, place, now)
            elif wire.ACK in payload[:20] and (ack := _ACK.search(payload)):
                self.acks += 1
                self.ack_latencies.append((now - int(ack[1]) // 1000) / 1e6)

    def _message(self, payload: bytes, place: int, now: int) -> None:
        self.marks += 1
        place += len(wire.MARK)
        stamp = int(payload[place : place + wire.STAMP_DIGITS])
        clock, sender = divmod(stamp, 1000)
        self.latencies.append((now - clock) / 1e6)
        if clock <= self._newest.get(sender, 0):
            self.disorder += 1
        self._newest[sender] = clock
        if len(self.rooms) == 1 and (rev := _REV.search(payload)):
            if self._rev and int(rev[1]) != self._rev + 1:
                self.gaps += 1
            self._rev = int(rev[1])


KINDS: dict[str, type[Counted | Sampled | Marked]] = {
    "counted": Counted,
    "marked": Marked,
    "sampled": Sampled,
    #: Sampled when it reads at all: a phase may leave it stalled.
    "stalled": Sampled,
}
