"""A server's frames as bytes (RFC 6455, section 5.2): whole ones, each ready for the wire.

They have no mask and no extension, so encoding them needs no connection's state, and one encoded
frame serves every peer.
"""

from __future__ import annotations

from wsproto.frame_protocol import FrameProtocol

_encoder = FrameProtocol(client=False, extensions=[])

PING = bytes(_encoder.ping())


def text_frame(payload: bytes) -> bytes:
    """One unfragmented text frame; ``payload`` is UTF-8."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping."""
    return bytes(_encoder.pong(payload))


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; for wsproto's NO_STATUS_RCVD one without a code."""
    return bytes(_encoder.close(code, reason))
