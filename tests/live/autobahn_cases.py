"""The cases of Autobahn's fuzzing client, by their numbers, put so that a chat can answer them.

Numbers and expectations are those of https://github.com/crossbario/autobahn-testsuite. It talks to
servers that send everything back; a chat does so with a message to the lobby, which has the bytes
of the frame, and with the ``client_id`` of a ``ping``, which is answered before the next frame is
read. What it cannot take (binary, blank) it refuses, and the socket stays open.

Where Autobahn allows more than one behaviour (OK and NON-STRICT), only the strict one passes here.
Group 6 is in autobahn_utf8.py, 9 and 10 are in test_autobahn.py. There is no 8 and no 11; 12 and 13
are about compression, which is not negotiated.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode

KIB = 1024
SHOWN = 200


@dataclass(frozen=True)
class Echo:
    """A text came back, as a chat's message or pong. Made by ``echo``."""

    text: str


@dataclass(frozen=True)
class Refused:
    """An ``error`` frame; the socket stays open."""

    code: str = "validation"


@dataclass(frozen=True)
class Pong:
    """A pong frame."""

    payload: bytes


@dataclass(frozen=True)
class Silence:
    """Nothing arrives for a while; Autobahn waits for a second."""

    seconds: float = 0.15


@dataclass(frozen=True)
class Closed:
    """The answer to our close frame (1005: it has no code). Then the server hangs up."""

    code: int = 1000


@dataclass(frozen=True)
class Failed:
    """A close frame that we did not ask for, and nothing after it."""

    code: int


#: Bytes are written, in one call; the others are what must be received next.
Step = bytes | Echo | Refused | Pong | Silence | Closed | Failed


def echo(text: str) -> Echo:
    """A long text by its size and checksum: pytest would take minutes to show where two differ."""
    if len(text) > SHOWN:
        return Echo(f"{len(text)} characters, {zlib.crc32(text.encode()):x}")
    return Echo(text)


def ping_of(client_id: str, size: int = 0) -> bytes:
    """A chat's ping of at least this many bytes; what JSON allows between its parts fills it up."""
    frame = {"type": "ping", "client_id": client_id}
    return json.dumps(frame, ensure_ascii=False).encode().ljust(size)


def fragmented(opcode: int, payload: bytes, size: int) -> list[bytes]:
    """A message in frames of this many bytes."""
    parts = cut(payload, size)
    return [
        encode(CONTINUATION if number else opcode, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]


def cut(data: bytes, size: int) -> list[bytes]:
    """The data in chops of this many bytes."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def octets(*frames: bytes) -> list[bytes]:
    return cut(b"".join(frames), 1)


def cleanly(*steps: Step) -> list[Step]:
    """These steps, and a closing handshake that we begin."""
    return [*steps, close(1000), Closed(1000)]


def close(code: int, reason: bytes = b"") -> bytes:
    return encode(CLOSE, code.to_bytes(2, "big") + reason)


HELLO = "Hello, world!"
TEXT_HELLO = encode(TEXT, ping_of(HELLO))


# 1: text and binary messages, around the sizes at which the coding of the length changes.

SIZES = {2: 125, 3: 126, 4: 127, 5: 128, 6: 65_535, 7: 65_536}

FRAMING: dict[str, list[Step]] = {
    "1.1.1": cleanly(encode(TEXT), Refused()),
    **{f"1.1.{n}": cleanly(encode(TEXT, b"*" * s), echo("*" * s)) for n, s in SIZES.items()},
    "1.1.8": cleanly(*cut(encode(TEXT, b"*" * 65_536), 997), echo("*" * 65_536)),
    "1.2.1": cleanly(encode(BINARY), Refused()),
    **{f"1.2.{n}": cleanly(encode(BINARY, b"\xfe" * s), Refused()) for n, s in SIZES.items()},
    "1.2.8": cleanly(*cut(encode(BINARY, b"\xfe" * 65_536), 997), Refused()),
}


# 2: ping and pong.

TEN = [f"payload-{n}".encode() for n in range(10)]
TEN_PINGS = b"".join(encode(PING, payload) for payload in TEN)
TEN_PONGS = [Pong(payload) for payload in TEN]
NOT_TEXT = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"

PINGS: dict[str, list[Step]] = {
    "2.1": cleanly(encode(PING), Pong(b"")),
    "2.2": cleanly(encode(PING, HELLO.encode()), Pong(HELLO.encode())),
    "2.3": cleanly(encode(PING, NOT_TEXT), Pong(NOT_TEXT)),
    "2.4": cleanly(encode(PING, b"\xfe" * 125), Pong(b"\xfe" * 125)),
    "2.5": [encode(PING, b"\xfe" * 126), Failed(1002)],
    "2.6": cleanly(*octets(encode(PING, b"\xfe" * 125)), Pong(b"\xfe" * 125)),
    "2.7": cleanly(encode(PONG)),
    "2.8": cleanly(encode(PONG, b"unsolicited")),
    "2.9": cleanly(encode(PONG, b"unsolicited") + encode(PING, b"ping"), Pong(b"ping")),
    "2.10": cleanly(TEN_PINGS, *TEN_PONGS),
    "2.11": cleanly(*octets(TEN_PINGS), *TEN_PONGS),
}


# 3 and 4: reserved bits, reserved opcodes. What came before is answered, what comes after is not.


def after_hello(broken: bytes) -> list[bytes]:
    return [TEXT_HELLO, broken, encode(PING)]


RESERVED_BITS: dict[str, list[Step]] = {
    "3.1": [encode(TEXT, ping_of(HELLO), rsv=1), Failed(1002)],
    "3.2": [
        b"".join(after_hello(encode(TEXT, ping_of(HELLO), rsv=2))),
        echo(HELLO),
        Failed(1002),
    ],
    "3.3": [*after_hello(encode(TEXT, ping_of(HELLO), rsv=3)), echo(HELLO), Failed(1002)],
    "3.4": [
        *octets(*after_hello(encode(TEXT, ping_of(HELLO), rsv=4))),
        echo(HELLO),
        Failed(1002),
    ],
    "3.5": [encode(BINARY, NOT_TEXT, rsv=5), Failed(1002)],
    # As Autobahn describes it; its code sends a binary message, as 3.5 does.
    "3.6": [encode(PING, HELLO.encode(), rsv=6), Failed(1002)],
    "3.7": [encode(CLOSE, rsv=7), Failed(1002)],
}


def reserved_opcodes(group: str, first: int) -> Iterator[tuple[str, list[Step]]]:
    """Five opcodes from this one on: alone, with a payload, between frames, in octets."""
    told: list[Step] = [echo(HELLO), Failed(1002)]
    full = HELLO.encode()
    yield f"{group}.1", [encode(first), Failed(1002)]
    yield f"{group}.2", [encode(first + 1, b"reserved opcode payload"), Failed(1002)]
    yield f"{group}.3", [b"".join(after_hello(encode(first + 2))), *told]
    yield f"{group}.4", [b"".join(after_hello(encode(first + 3, full))), *told]
    yield f"{group}.5", [*octets(*after_hello(encode(first + 4, full))), *told]


RESERVED_OPCODES: dict[str, list[Step]] = {
    **dict(reserved_opcodes("4.1", 3)),
    **dict(reserved_opcodes("4.2", 11)),
}


# 5: fragments.

WHOLE = "fragment1fragment2"
ONE, TWO = fragmented(TEXT, ping_of(WHOLE), 26)
PINGED = encode(PING, b"ping payload")
PONGED = Pong(b"ping payload")
NOTHING_TO_CONTINUE = encode(CONTINUATION, b"non-continuation payload")
NOTHING_TO_GO_ON_WITH = encode(CONTINUATION, b"non-continuation payload", fin=False)
IN_FIVE = fragmented(TEXT, ping_of("in five fragments, with pings between"), 14)


def with_pings_between(*, in_one_write: bool) -> list[Step]:
    """Each ping is answered at once, while the text is not over."""
    first = [*IN_FIVE[:2], encode(PING, b"pongme 1!")]
    second = [*IN_FIVE[2:4], encode(PING, b"pongme 2!")]
    if in_one_write:
        first, second = [b"".join(first)], [b"".join(second)]
    return cleanly(
        *first,
        Pong(b"pongme 1!"),
        Silence(),
        *second,
        Pong(b"pongme 2!"),
        Silence(),
        IN_FIVE[4],
        echo("in five fragments, with pings between"),
    )


FRAGMENTS: dict[str, list[Step]] = {
    "5.1": [encode(PING, b"1", fin=False) + encode(CONTINUATION, b"2"), Failed(1002)],
    "5.2": [encode(PONG, b"1", fin=False) + encode(CONTINUATION, b"2"), Failed(1002)],
    "5.3": cleanly(ONE + TWO, echo(WHOLE)),
    "5.4": cleanly(ONE, TWO, echo(WHOLE)),
    "5.5": cleanly(*octets(ONE, TWO), echo(WHOLE)),
    "5.6": cleanly(ONE + PINGED + TWO, PONGED, echo(WHOLE)),
    "5.7": cleanly(ONE, PINGED, TWO, PONGED, echo(WHOLE)),
    "5.8": cleanly(*octets(ONE, PINGED, TWO), PONGED, echo(WHOLE)),
    "5.9": [NOTHING_TO_CONTINUE + TEXT_HELLO, Failed(1002)],
    "5.10": [NOTHING_TO_CONTINUE, TEXT_HELLO, Failed(1002)],
    "5.11": [*octets(NOTHING_TO_CONTINUE, TEXT_HELLO), Failed(1002)],
    "5.12": [NOTHING_TO_GO_ON_WITH + TEXT_HELLO, Failed(1002)],
    "5.13": [NOTHING_TO_GO_ON_WITH, TEXT_HELLO, Failed(1002)],
    "5.14": [*octets(NOTHING_TO_GO_ON_WITH, TEXT_HELLO), Failed(1002)],
    "5.15": [ONE + TWO + NOTHING_TO_GO_ON_WITH + TEXT_HELLO, echo(WHOLE), Failed(1002)],
    "5.16": [(NOTHING_TO_GO_ON_WITH + ONE + TWO) * 2, Failed(1002)],
    "5.17": [(NOTHING_TO_CONTINUE + ONE + TWO) * 2, Failed(1002)],
    "5.18": [ONE + TEXT_HELLO, Failed(1002)],
    "5.19": with_pings_between(in_one_write=True),
    "5.20": with_pings_between(in_one_write=False),
}


# 7: the closing handshake. Nothing that comes after a close frame is answered.

NORMAL = close(1000)
GREEK = "κ\u1f79σμε"  # κόσμε, with the accented letter that has three bytes
NOT_UTF8 = GREEK.encode() + b"\xed\xa0\x80edited"
VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]

CLOSING: dict[str, list[Step]] = {
    "7.1.1": cleanly(TEXT_HELLO, echo(HELLO)),
    "7.1.2": [NORMAL + encode(CLOSE), Closed()],
    "7.1.3": [NORMAL + encode(PING), Closed()],
    "7.1.4": [NORMAL + TEXT_HELLO, Closed()],
    "7.1.5": [ONE + NORMAL + TWO, Closed()],
    # Autobahn leaves open whether a close overtakes what came before it; here it does not.
    "7.1.6": [
        encode(TEXT, ping_of("256 KiB", 256 * KIB)) + TEXT_HELLO + NORMAL + encode(PING),
        echo("256 KiB"),
        echo(HELLO),
        Closed(),
    ],
    "7.3.1": [encode(CLOSE), Closed(1005)],
    "7.3.2": [encode(CLOSE, b"a"), Failed(1002)],
    "7.3.3": [NORMAL, Closed()],
    "7.3.4": [close(1000, HELLO.encode()), Closed()],
    "7.3.5": [close(1000, b"*" * 123), Closed()],
    "7.3.6": [close(1000, b"*" * 124), Failed(1002)],
    # Autobahn would take 1002 too.
    "7.5.1": [close(1000, NOT_UTF8), Failed(1007)],
    # Autobahn would take 1000 as an answer to all of these.
    **{f"7.7.{n}": [close(code), Closed(code)] for n, code in enumerate(VALID_CODES, 1)},
    **{f"7.9.{n}": [close(code), Failed(1002)] for n, code in enumerate(INVALID_CODES, 1)},
    # RFC 6455 does not know codes from 5000 on; Autobahn only looks what happens.
    "7.13.1": [close(5000), Failed(1002)],
    "7.13.2": [close(65_535), Failed(1002)],
}
