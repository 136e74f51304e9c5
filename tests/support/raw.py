"""A WebSocket client that can do everything wrong, byte by byte."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from typing import Any, NamedTuple

from .server import Server

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
SECONDS = 10


class RawFrame(NamedTuple):
    opcode: int
    payload: bytes


def encode(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """One client frame (RFC 6455, section 5.2)."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not mask:
        return head + payload
    key = os.urandom(4)
    stream = (key * (len(payload) // 4 + 1))[: len(payload)]
    # As two long numbers: byte by byte, some megabytes would take seconds.
    masked = int.from_bytes(payload) ^ int.from_bytes(stream)
    return head + key + masked.to_bytes(len(payload))


def handshake(server: Server, token: str = "", **changed: str | None) -> tuple[int, bytes]:
    """The status of a handshake whose headers were changed (None leaves one out), and its rest."""
    client = RawClient(server, token, **changed)
    client.sock.close()
    return client.status, client.head


class RawClient:
    """A socket after the handshake's answer; underscores in header names stand for hyphens."""

    def __init__(self, server: Server, token: str = "", **changed: str | None) -> None:
        port = server.port
        headers: dict[str, str | None] = {
            "Host": f"127.0.0.1:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
        }
        if token:
            headers["Authorization"] = f"Bearer {token}"
        path = changed.pop("path", None) or "/ws"
        method = changed.pop("method", None) or "GET"
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        self.sock = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        self._buffer = b""
        self.head = self._until(b"\r\n\r\n")
        self.status = int(self.head.split()[1])

    def body(self) -> bytes:
        """The body of an answer that was not 101."""
        size = next(
            int(line.split(b":")[1])
            for line in self.head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        return self._exactly(size)

    def send(self, opcode: int, payload: bytes = b"", **options: bool | int) -> None:
        self.sock.sendall(encode(opcode, payload, **options))  # type: ignore[arg-type]

    def next(self, *opcodes: int) -> RawFrame:
        """The next frame, or the next of these opcodes."""
        while True:
            first, second = self._exactly(2)
            size = second & 127
            assert first & 0xF0 == 0x80, "a server's frames are whole, without reserved bits"
            assert not second & 0x80, "a server does not mask"
            if size == 126:
                (size,) = struct.unpack("!H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._exactly(8))
            frame = RawFrame(first & 15, self._exactly(size))
            if not opcodes or frame.opcode in opcodes:
                return frame

    def next_frame(self, type_: str) -> dict[str, Any]:
        """The next frame of the protocol that is of this type."""
        while True:
            frame: dict[str, Any] = json.loads(self.next(TEXT).payload)
            if frame["type"] == type_:
                return frame

    def closed(self, *, answer: bool = True) -> int:
        """Wait for the close frame; its code (1005 if it has none), then the end of the stream."""
        payload = self.next(CLOSE).payload
        if answer:
            self.sock.shutdown(socket.SHUT_WR)
        try:
            while self.sock.recv(65_536):
                pass
        except ConnectionResetError:
            pass
        return int(struct.unpack("!H", payload[:2])[0]) if payload else 1005

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(mark)
        return head

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _more(self) -> None:
        data = self.sock.recv(65_536)
        assert data, "the server has hung up"
        self._buffer += data
