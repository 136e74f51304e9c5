"""RFC 6455 and the limits of the contract; test_autobahn.py has every case of the former."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.support.people import Person, unused_name
from tests.support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient, encode


@pytest.fixture
def raw(alice: Person) -> Iterator[RawClient]:
    """A socket of alice's whose hello has been read."""
    client = RawClient(alice.server, alice.token)
    assert client.status == 101
    client.next(TEXT)
    yield client
    client.sock.close()


def said(raw: RawClient) -> str:
    """The text of the next message that the lobby is given."""
    return str(raw.next_frame("message")["text"])


def pong(raw: RawClient) -> bool:
    raw.send(PING, b"alive?")
    return raw.next(PONG).payload == b"alive?"


@pytest.mark.parametrize("size", [1, 125, 126, 127, 128, 3999])
def test_text_of_every_length_coding_comes_through(raw: RawClient, size: int) -> None:
    raw.send(TEXT, b"*" * size)
    assert said(raw) == "*" * size


def test_what_comes_with_the_handshake_in_one_packet_is_not_lost(alice: Person) -> None:
    head = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{alice.server.port}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Authorization: Bearer {alice.token}\r\n\r\n"
    ).encode()
    ping = encode(TEXT, b'{"type":"ping","client_id":"early"}')
    with socket.create_connection(("127.0.0.1", alice.server.port), 10) as raw:
        raw.sendall(head + ping[:9])
        time.sleep(0.1)
        raw.sendall(ping[9:])
        received = b""
        while b'"pong"' not in received:
            more = raw.recv(65_536)
            assert more, received
            received += more
    assert b'{"type":"pong","client_id":"early"}' in received


def test_text_that_arrives_in_single_bytes_comes_through(raw: RawClient) -> None:
    for byte in encode(TEXT, "по байту".encode()):
        raw.sock.sendall(bytes([byte]))
    assert said(raw) == "по байту"


def test_many_frames_in_one_segment_are_all_read_in_order(raw: RawClient) -> None:
    raw.sock.sendall(b"".join(encode(TEXT, f"segment {n}".encode()) for n in range(20)))
    assert [said(raw) for _ in range(20)] == [f"segment {n}" for n in range(20)]


@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125)), b"\x00\xff" * 62])
def test_a_ping_is_answered_with_its_payload(raw: RawClient, payload: bytes) -> None:
    raw.send(PING, payload)
    assert raw.next(PONG).payload == payload


def test_an_unasked_pong_is_ignored(raw: RawClient) -> None:
    raw.send(PONG, b"nobody asked")
    assert pong(raw)


def test_fragmented_text_is_put_together(raw: RawClient) -> None:
    raw.send(TEXT, b"frag", fin=False)
    raw.send(CONTINUATION, b"", fin=False)
    raw.send(CONTINUATION, b"mented", fin=True)
    assert said(raw) == "fragmented"


def test_control_frames_between_fragments_are_answered_at_once(raw: RawClient) -> None:
    raw.send(TEXT, b"one ", fin=False)
    raw.send(PING, b"between")
    assert raw.next(PONG).payload == b"between"
    raw.send(CONTINUATION, b"two", fin=True)
    assert said(raw) == "one two"


def test_a_character_split_over_fragments_is_put_together(raw: RawClient) -> None:
    snowman = "a☃b😀".encode()
    for position in range(len(snowman)):
        last = position == len(snowman) - 1
        opcode = CONTINUATION if position else TEXT
        raw.send(opcode, snowman[position : position + 1], fin=last)
    assert said(raw) == "a☃b😀"


INVALID_UTF8 = {
    "lone continuation": [b"\x80"],
    "overlong": [b"\xc0\xaf"],
    "surrogate": [b"\xed\xa0\x80"],
    "beyond unicode": [b"\xf4\x90\x80\x80"],
    "split over frames": [b"ok \xce", b"\xba\xe1", b"\xbd\xb9\xed\xa0\x80"],
    "cut off": [b"\xe2\x98"],
}


@pytest.mark.parametrize("parts", INVALID_UTF8.values(), ids=INVALID_UTF8)
def test_text_that_is_not_utf8_closes_with_1007(raw: RawClient, parts: list[bytes]) -> None:
    for position, part in enumerate(parts):
        opcode = CONTINUATION if position else TEXT
        raw.send(opcode, part, fin=position == len(parts) - 1)
    assert raw.closed() == 1007


def test_invalid_utf8_closes_before_the_message_is_complete(raw: RawClient) -> None:
    raw.send(TEXT, b"\xce\xba\xf4\x90", fin=False)
    assert raw.closed() == 1007


BROKEN = {
    "no mask": encode(TEXT, b"hello", mask=False),
    "reserved bit 1": encode(TEXT, b"hello", rsv=4),
    "reserved bit 2": encode(TEXT, b"hello", rsv=2),
    "reserved bit 3": encode(PING, b"hello", rsv=1),
    "unknown opcode": encode(3, b"hello"),
    "unknown control opcode": encode(11, b"hello"),
    "ping of 126 bytes": encode(PING, b"*" * 126),
    "fragmented ping": encode(PING, b"hello", fin=False),
    "continuation of nothing": encode(CONTINUATION, b"hello"),
    "text within text": encode(TEXT, b"one", fin=False) + encode(TEXT, b"two"),
    "close of one byte": encode(CLOSE, b"\x03"),
    "close with code 999": encode(CLOSE, struct.pack("!H", 999)),
    "close with code 1004": encode(CLOSE, struct.pack("!H", 1004)),
    "close with code 1005": encode(CLOSE, struct.pack("!H", 1005)),
    "close with code 1006": encode(CLOSE, struct.pack("!H", 1006)),
    "close with code 5000": encode(CLOSE, struct.pack("!H", 5000)),
    "long length that is short": b"\x81\xfe\x00\x05" + b"\x00" * 9,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_framing_closes_with_1002(raw: RawClient, data: bytes) -> None:
    raw.sock.sendall(data)
    assert raw.closed() == 1002


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4000, 4999])
def test_a_close_is_answered_with_its_code(raw: RawClient, code: int) -> None:
    raw.send(CLOSE, struct.pack("!H", code) + b"bye")
    assert raw.closed() == code


def test_a_close_without_a_code_is_answered_without_one(raw: RawClient) -> None:
    raw.send(CLOSE)
    assert raw.closed() == 1005


def test_nothing_after_a_close_is_acted_on(raw: RawClient, alice: Person) -> None:
    text = unused_name("after the close")
    raw.sock.sendall(encode(CLOSE, struct.pack("!H", 1000)) + encode(TEXT, text.encode()))
    assert raw.closed() == 1000
    assert text not in [m["text"] for m in alice.history()]


def test_a_close_reason_that_is_not_utf8_closes_with_1007(raw: RawClient) -> None:
    raw.send(CLOSE, struct.pack("!H", 1000) + b"\xff")
    assert raw.closed() == 1007


NOT_TAKEN = {"not UTF-8": encode(TEXT, b"\xff"), "too big": encode(TEXT, b"a" * 65_537)}


@pytest.mark.parametrize("data", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_a_peer_that_does_not_hang_up_after_our_close_is_cut_off(
    raw: RawClient, data: bytes
) -> None:
    raw.sock.sendall(data)
    assert raw.closed(answer=False) in (1007, 1009)


def test_a_half_frame_and_a_cut_line_leave_no_socket_behind(raw: RawClient, alice: Person) -> None:
    raw.sock.sendall(encode(TEXT, b"never whole")[:7])
    raw.sock.close()
    with alice.talk() as talk:
        assert talk.alive()


TOO_BIG = {
    "ascii": [b"a" * 65_537],
    "emoji": ["😀".encode() * 16_385],
    "fragments": [b"a" * 30_000] * 3,
    "emoji in fragments": ["😀".encode() * 8000] * 3,
}


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("parts", TOO_BIG.values(), ids=TOO_BIG)
def test_a_message_over_64_kib_closes_with_1009(
    raw: RawClient, parts: list[bytes], opcode: int
) -> None:
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        raw.send(CONTINUATION if position else opcode, part, fin=last)
    assert raw.closed() == 1009


def test_a_message_of_exactly_64_kib_is_read(raw: RawClient) -> None:
    raw.send(TEXT, b"a" * 65_536)
    assert raw.next_frame("error")["code"] == "validation"  # the frame is fine
    assert pong(raw)
