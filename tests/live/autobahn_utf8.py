"""Group 6 of Autobahn's cases: UTF-8, after https://www.cl.cam.ac.uk/~mgk25/ucs/examples/UTF-8-test.txt.

Invalid text is sent as Autobahn sends it; valid text as the ``client_id`` of a chat's ping, which
is answered with all of it.
"""

from __future__ import annotations

from tests.live.autobahn_cases import (
    GREEK,
    NOT_UTF8,
    Failed,
    Refused,
    Silence,
    Step,
    cleanly,
    echo,
    fragmented,
    ping_of,
)
from tests.support.raw import CONTINUATION, TEXT, encode

UMLAUTS = "Hello-µ@ßöäüàá-UTF-8!!"

# Character 0x110000, were there one: wrong from its second byte on.
BEYOND = GREEK.encode() + b"\xf4\x90\x80\x80edited"


def told_at_once(first: bytes, second: bytes) -> list[Step]:
    """The first half may still become text; the second cannot, and what follows is not awaited.

    Failing only at the message's end would be NON-STRICT.
    """
    return [first, Silence(), second, Failed(1007)]


def in_frames(at: int, to: int) -> list[Step]:
    return told_at_once(
        encode(TEXT, BEYOND[:at], fin=False), encode(CONTINUATION, BEYOND[at:to], fin=False)
    )


def in_one_frame(at: int, to: int) -> list[Step]:
    whole = encode(TEXT, BEYOND)
    head = len(whole) - len(BEYOND)
    return told_at_once(whole[: head + at], whole[head + at : head + to])


WORDS = ping_of(UMLAUTS)
MIDDLE = WORDS.index("ü".encode())

UTF8: dict[str, list[Step]] = {
    "6.1.1": cleanly(encode(TEXT), Refused()),
    "6.1.2": cleanly(
        encode(TEXT, fin=False) + encode(CONTINUATION, fin=False) + encode(CONTINUATION), Refused()
    ),
    "6.1.3": cleanly(
        encode(TEXT, fin=False)
        + encode(CONTINUATION, ping_of("middle"), fin=False)
        + encode(CONTINUATION),
        echo("middle"),
    ),
    "6.2.1": cleanly(encode(TEXT, WORDS), echo(UMLAUTS)),
    "6.2.2": cleanly(
        encode(TEXT, WORDS[:MIDDLE], fin=False) + encode(CONTINUATION, WORDS[MIDDLE:]),
        echo(UMLAUTS),
    ),
    "6.2.3": cleanly(b"".join(fragmented(TEXT, WORDS, 1)), echo(UMLAUTS)),
    "6.2.4": cleanly(b"".join(fragmented(TEXT, ping_of(GREEK), 1)), echo(GREEK)),
    "6.3.1": [encode(TEXT, NOT_UTF8), Failed(1007)],
    "6.3.2": [b"".join(fragmented(TEXT, NOT_UTF8, 1)), Failed(1007)],
    "6.4.1": in_frames(11, 15),
    "6.4.2": in_frames(12, 13),
    "6.4.3": in_one_frame(11, 15),
    "6.4.4": in_one_frame(12, 13),
}

# What is a str is text, what is bytes is not: by section, from 6.5 on.

PREFIXES = [GREEK.encode()[:size] for size in range(1, len(GREEK.encode()) + 1)]
CUT_SHORT = [
    b"\xc0",
    b"\xe0\x80",
    b"\xf0\x80\x80",
    b"\xf8\x80\x80\x80",
    b"\xfc\x80\x80\x80\x80",
    b"\xdf",
    b"\xef\xbf",
    b"\xf7\xbf\xbf",
    b"\xfb\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf",
]
HIGH = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"]

SECTIONS: dict[str, list[str | bytes]] = {
    "some text": ["hello$world", "hello¢world", "hello€world", "hello\U00024b62world", GREEK],
    "every beginning of a text": [
        part.decode() if len(part) in {2, 5, 7, 9, 11} else part for part in PREFIXES
    ],
    "the first of each length": ["\x00", "\x80", "\u0800", "\U00010000"],
    "the first of length 5 and 6": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "the last of each length": ["\x7f", "\u07ff", "\uffff", "\U0010ffff"],
    "the last of length 4, 5 and 6": [
        b"\xf7\xbf\xbf\xbf",
        b"\xfb\xbf\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf\xbf",
    ],
    "other boundaries": ["\ud7ff", "\ue000", "\ufffd", "\U0010ffff", b"\xf4\x90\x80\x80"],
    "continuation bytes of nothing": [
        b"\x80",
        b"\xbf",
        *[(b"\x80\xbf" * 3)[:size] for size in range(2, 7)],
        bytes(range(0x80, 0xBF)),
    ],
    "first bytes alone": [
        b"".join(bytes([first, 0x20]) for first in range(*bounds))
        for bounds in [(0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD)]
    ],
    "last byte missing": [*CUT_SHORT],
    "last bytes missing": [b"".join(CUT_SHORT)],
    "impossible bytes": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    "overlong slash": [
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
    ],
    "longest overlong": [
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x87\xbf\xbf\xbf",
        b"\xfc\x83\xbf\xbf\xbf\xbf",
    ],
    "overlong NUL": [
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xf8\x80\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80\x80",
    ],
    "surrogates": [*HIGH, b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"],
    "pairs of surrogates": [
        high + low for high in HIGH for low in (b"\xed\xb0\x80", b"\xed\xbf\xbf")
    ],
    "not characters, but text": [
        chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)
    ],
    "specials": [chr(code) for code in range(0xFFF9, 0x10000)],
}


def sequence(text: str | bytes) -> list[Step]:
    if isinstance(text, bytes):
        return [encode(TEXT, text), Failed(1007)]
    if text == "\x00":  # is text, but nothing for a chat
        return cleanly(encode(TEXT, text.encode()), Refused())
    return cleanly(encode(TEXT, ping_of(text)), echo(text))


UTF8 |= {
    f"6.{section}.{number}": sequence(text)
    for section, texts in enumerate(SECTIONS.values(), 5)
    for number, text in enumerate(texts, 1)
}
