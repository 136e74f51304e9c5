"""The reader: strict about frames, and no more is read than is dealt with."""

from __future__ import annotations

import math
import socket
from time import monotonic

import pytest

from bytechat.realtime.closing import Code

from ..support.pair import SECONDS, Line, MakeLine, wait_until
from ..support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode

# Messages.


def test_what_came_with_the_handshake_is_read_first(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    frame = encode(TEXT, b"early")
    line.peer.sendall(frame[5:] + encode(CLOSE))
    line.reader.serve(line.received.append, frame[:5])
    assert line.received == ["early"]


def test_a_peer_is_not_silent_while_its_reader_is_held_back(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    seen: list[float] = []
    line.peer.sendall(encode(TEXT, b"hold on") + encode(CLOSE))
    line.reader.serve(lambda _text: seen.append(line.connection.heard_at))
    assert seen == [math.inf]


def test_a_message_is_handed_up_as_it_was_typed(open_line: Line) -> None:
    open_line.send(TEXT, "Привет, 世界 😀".encode())
    open_line.send(TEXT)
    open_line.send(CLOSE)
    open_line.ended()
    assert open_line.received == ["Привет, 世界 😀", ""]


def test_messages_that_come_in_one_packet_or_byte_by_byte_are_the_same(open_line: Line) -> None:
    together = encode(TEXT, b"one") + encode(PING, b"p") + encode(TEXT, b"two")
    open_line.peer.sendall(together)
    for byte in together:
        open_line.peer.sendall(bytes([byte]))
    assert [open_line.frame() for _ in range(2)] == [(PONG, b"p")] * 2
    open_line.send(CLOSE)
    open_line.ended()
    assert open_line.received == ["one", "two"] * 2


def test_one_message_is_dealt_with_before_the_next_is_read(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    line.peer.sendall(encode(TEXT, b"close me") + encode(TEXT, b"too late") + encode(CLOSE))
    received = []

    def receive(text: str | None) -> None:
        received.append(text)
        line.connection.close(Code.TOO_MANY_REFUSED)

    line.reader.serve(receive)
    assert received == ["close me"]
    assert line.closed() == 4400


def test_a_ping_is_answered_with_its_payload(open_line: Line) -> None:
    for payload in (b"", b"are you there", bytes(125)):
        open_line.send(PING, payload)
        assert open_line.frame() == (PONG, payload)


def test_a_ping_between_the_parts_of_a_message_is_answered_at_once(open_line: Line) -> None:
    open_line.send(TEXT, b"one ", fin=False)
    open_line.send(PING, b"now")
    assert open_line.frame() == (PONG, b"now")
    open_line.send(PONG, b"asked by nobody")
    open_line.send(CONTINUATION, b"message")
    open_line.send(CLOSE)
    open_line.ended()
    assert open_line.received == ["one message"]


def test_a_character_may_be_split_over_the_parts_of_a_message(open_line: Line) -> None:
    whole = "é世😀".encode()
    for position, byte in enumerate(whole):
        last = position == len(whole) - 1
        open_line.send(CONTINUATION if position else TEXT, bytes([byte]), fin=last)
    open_line.send(CLOSE)
    open_line.ended()
    assert open_line.received == ["é世😀"]


def test_a_binary_message_is_told_from_a_text(open_line: Line) -> None:
    open_line.send(BINARY, b"\xff\xfe", fin=False)
    open_line.send(CONTINUATION, b"\xff")
    open_line.send(BINARY)
    open_line.send(TEXT, b"text again")
    open_line.send(CLOSE)
    open_line.ended()
    assert open_line.received == [None, None, "text again"]


def test_any_byte_counts_as_heard(open_line: Line) -> None:
    for data in (encode(TEXT, b"hi")[:1], encode(TEXT, b"hi")[1:], encode(PONG)):
        open_line.connection.heard_at = 0.0
        open_line.peer.sendall(data)
        wait_until(lambda: monotonic() - open_line.connection.heard_at < SECONDS)


@pytest.mark.parametrize(
    "sent",
    [
        encode(TEXT, b"\xff"),
        encode(TEXT, b"hi \xc3("),
        encode(TEXT, b"\xed\xa0\x80"),  # half of a surrogate pair
        encode(TEXT, b"\xf4\x90\x80\x80"),  # past the last character
        encode(TEXT, b"\xc0\xaf"),  # longer than need be
        encode(TEXT, b"\xe4\xb8"),  # ends within a character
        # As soon as it is seen: these messages are not over.
        encode(TEXT, b"\xff", fin=False),
        encode(TEXT, b"\xe4", fin=False) + encode(CONTINUATION, b"(", fin=False),
        encode(TEXT, b"hi \xff" + bytes(90))[:-40],
        encode(CLOSE, (1000).to_bytes(2, "big") + b"\xff"),
    ],
    ids=range(10),
)
def test_what_is_not_utf8_is_closed_with_1007_as_soon_as_it_is_seen(
    sent: bytes, open_line: Line
) -> None:
    open_line.peer.sendall(sent)
    assert open_line.closed() == 1007
    open_line.peer.shutdown(socket.SHUT_WR)
    open_line.ended()
    assert open_line.received == []
    assert open_line.connection.close_code == Code.NOT_UTF8


BROKEN = {
    "not masked": encode(TEXT, b"hi", mask=False),
    "close not masked": encode(CLOSE, b"", mask=False),
    **{f"reserved bit {rsv}": encode(TEXT, b"hi", rsv=rsv) for rsv in (1, 2, 4)},
    "reserved bit of a ping": encode(PING, b"hi", rsv=4),
    **{f"opcode {code}": encode(code, b"hi") for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "long ping": encode(PING, bytes(126)),
    "ping in parts": encode(PING, b"hi", fin=False),
    "close in parts": encode(CLOSE, b"", fin=False),
    "continues nothing": encode(CONTINUATION, b"hi"),
    "begins within": encode(TEXT, b"one", fin=False) + encode(TEXT, b"other"),
    "close of one byte": encode(CLOSE, b"\x03"),
    **{
        f"close {code}": encode(CLOSE, code.to_bytes(2, "big"))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)
    },
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "5 in two bytes": b"\x81\xfe\x00\x05" + bytes(9),
    "5 in eight bytes": b"\x81\xff" + (5).to_bytes(8, "big") + bytes(9),
    "over 63 bits": b"\x81\xff" + (2**63).to_bytes(8, "big") + bytes(9),
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
def test_broken_framing_is_closed_with_1002_once(sent: bytes, open_line: Line) -> None:
    open_line.peer.sendall(sent)
    assert open_line.closed() == 1002
    open_line.peer.sendall(sent)
    open_line.peer.shutdown(socket.SHUT_WR)
    assert open_line.rest() == b""
    open_line.ended()
    assert open_line.received == []
    assert open_line.connection.close_code == Code.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(
    "parts",
    [
        ["x" * 101],
        ["😀" * 26],  # 26 characters of 104 bytes
        ["é" * 51],
        ["x" * 50, "x" * 51],
        ["😀" * 13, "😀" * 13],
        ["x" * 100, "", "x"],
    ],
    ids=range(6),
)
def test_a_message_over_the_limit_in_bytes_is_closed_with_1009(
    opcode: int, parts: list[str], open_line: Line
) -> None:
    for position, part in enumerate(parts):
        # It need not be over to be too big.
        open_line.send(CONTINUATION if position else opcode, part.encode(), fin=False)
    assert open_line.closed() == 1009
    assert open_line.received == []
    assert not open_line.reader._parts
    open_line.send(CONTINUATION, b"x")
    open_line.send(TEXT, b"another message")
    open_line.peer.shutdown(socket.SHUT_WR)
    assert open_line.rest() == b""
    assert open_line.received == []


@pytest.mark.parametrize(
    "parts",
    [["x" * 100], ["😀" * 25], ["x" * 50, "x" * 50], ["x" * 99, "", "x", ""]],
    ids=range(4),
)
def test_a_message_of_the_limit_is_taken_time_and_again(parts: list[str], open_line: Line) -> None:
    for _ in range(3):
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            open_line.send(CONTINUATION if position else TEXT, part.encode(), fin=last)
    open_line.send(CLOSE)
    open_line.ended()
    assert open_line.received == ["".join(parts)] * 3


def test_the_size_in_a_frames_head_is_not_waited_for(open_line: Line) -> None:
    declared = b"\x81\xff" + (2**62).to_bytes(8, "big") + bytes(4)
    open_line.peer.sendall(declared + b"x" * 101)
    assert open_line.closed() == 1009


def test_a_message_without_end_and_without_bytes_costs_no_memory(open_line: Line) -> None:
    open_line.send(TEXT, b"", fin=False)
    open_line.peer.sendall(encode(CONTINUATION, b"", fin=False) * 2000)
    open_line.send(PING)
    assert open_line.frame() == (PONG, b"")
    assert not open_line.reader._parts


def test_zero_is_no_limit_for_a_message(make_line: MakeLine) -> None:
    line = make_line(frame_max=0)
    line.connection.open(b"")
    line.serve()
    line.send(TEXT, b"x" * 300_000)
    line.send(CLOSE)
    line.ended()
    assert line.received == ["x" * 300_000]


def test_a_socket_that_says_nothing_keeps_no_list_and_no_dictionary(line: Line) -> None:
    assert not hasattr(line.connection, "__dict__")
    assert not hasattr(line.reader, "__dict__")
    assert line.reader._parts is None


# The end.


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4000, 4999])
def test_a_peers_close_is_answered_with_its_own_code_and_ends_the_stream(
    code: int, open_line: Line
) -> None:
    open_line.send(CLOSE, code.to_bytes(2, "big") + "прощай".encode())
    assert open_line.closed() == code
    assert open_line.rest() == b""
    open_line.ended()
    assert open_line.connection.close_code == code


def test_a_close_without_a_code_is_answered_without_one(open_line: Line) -> None:
    open_line.send(CLOSE)
    assert open_line.frame() == (CLOSE, b"")
    assert open_line.rest() == b""
    open_line.ended()


def test_a_peer_that_answers_our_close_ends_the_reading(open_line: Line) -> None:
    open_line.connection.close(Code.GOING_AWAY)
    assert open_line.closed() == 1001
    open_line.send(CLOSE, (1001).to_bytes(2, "big"))
    open_line.ended()
    assert open_line.rest() == b""
    assert open_line.connection.close_code == 1001


def test_nothing_that_comes_after_our_close_is_handed_up(open_line: Line) -> None:
    open_line.connection.close(Code.TOKEN_ENDED)
    assert open_line.closed() == 4401
    open_line.send(TEXT, b"one more")
    open_line.send(PING, b"and this")
    open_line.send(CLOSE, (4401).to_bytes(2, "big"))
    assert open_line.rest() == b""
    open_line.ended()
    assert open_line.received == []


def test_a_peer_that_hangs_up_without_a_word_was_closed_abnormally(open_line: Line) -> None:
    open_line.peer.close()
    open_line.ended()
    assert open_line.connection.close_code == Code.ABNORMAL
