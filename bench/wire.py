"""The little of WebSocket that a load needs: handshake, masked frames, a reader of frames."""

from __future__ import annotations

import socket
from collections.abc import Iterator

#: Stands in a template where the stamp of a message goes.
STAMP = "<stamp>"

#: A stamp is the monotonic clock in ns, then three digits of who sent it; always as long as this.
STAMP_DIGITS = 20

#: Marks a message, once: its text begins with this, and a stamp. No other frame has it. Not
#: shorter, as the head of a frame may have any two bytes.
MARK = b"~mark"

#: What only an ack has. As long as a mark, so that a reader keeps one tail for both.
ACK = b'"ack"'

TEXT, CLOSE = 1, 8

#: Of a handshake's answer; ByteChat's is under 300 bytes.
ANSWER_MAX = 16_384


def request(port: int, path: str, headers: str = "") -> bytes:
    """The client's part of the handshake; ``headers`` are whole lines, each with its CRLF."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"{headers}\r\n"
    ).encode()


def read_answer(sock: socket.socket) -> bytes:
    """Wait for ``101``; what came after it. Raises ConnectionError."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(ANSWER_MAX)
        if not piece or len(data) > ANSWER_MAX:
            raise ConnectionError(f"no handshake: {data[:300]!r}")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"no handshake: {data[:300]!r}")
    return rest


def masked(payload: bytes) -> bytes:
    """A client's text frame. The mask is zero, which a server undoes like any other."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | TEXT, 0x80 | size])
    else:
        head = bytes([0x80 | TEXT, 0x80 | 126]) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


class Template:
    """A frame that was encoded beforehand, but for its stamp."""

    def __init__(self, text: str) -> None:
        frame = masked(text.replace(STAMP, "0" * STAMP_DIGITS).encode())
        parts = text.encode().split(STAMP.encode())
        head = frame[: len(frame) - len(text.replace(STAMP, "0" * STAMP_DIGITS).encode())]
        self._parts = [head + parts[0], *parts[1:]]

    def frame(self, stamp: int) -> bytes:
        """The frame with this stamp."""
        return (b"%020d" % stamp).join(self._parts)


def frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole frames, (opcode, payload), off the head of what a server has sent."""
    start, end = 0, len(buffer)
    while end - start >= 2:
        size = buffer[start + 1] & 127
        head = {126: 4, 127: 10}.get(size, 2)
        if end - start < head:
            break
        if head > 2:
            size = int.from_bytes(buffer[start + 2 : start + head], "big")
        if end - start < head + size:
            break
        yield buffer[start] & 15, bytes(buffer[start + head : start + head + size])
        start += head + size
    del buffer[:start]
