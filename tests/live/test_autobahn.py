"""RFC 6455 against a real server, case by case as Autobahn's fuzzing client does it."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

import pytest

from tests.live import autobahn_cases as cases
from tests.live.autobahn_cases import (
    KIB,
    Closed,
    Failed,
    Pong,
    Refused,
    Silence,
    Step,
    cleanly,
    cut,
    echo,
    fragmented,
    ping_of,
)
from tests.live.autobahn_utf8 import UTF8
from tests.live.conftest import check_log
from tests.support.databases import Databases
from tests.support.people import Person
from tests.support.raw import BINARY, CLOSE, PING, PONG, TEXT, RawClient, encode
from tests.support.server import Server

MIB = 1024 * KIB

#: For one answer: 65,536 fragments take a second, and on a busy machine that traces them, many.
SECONDS = 60

#: Round trips of Autobahn, and those of frames that are refused: one more, and the chat closes.
ROUND_TRIPS, REFUSED_MAX = 1000, 20


@pytest.fixture(scope="module")
def fuzzer(databases: Databases) -> Iterator[Person]:
    """On one server for all cases, and on one kind of database: nothing here is about storage."""
    # The largest message is the largest frame; what comes back must fit the outbox.
    limits = {"TEXT_MAX": "0", "FRAME_MAX": str(16 * MIB), "OUTBOX_MAX": "0"}
    with Server(databases.fresh("sqlite"), **limits) as running:
        yield Person(running, "fuzzer")
        check_log(running)


@pytest.fixture
def raw(fuzzer: Person) -> Iterator[RawClient]:
    """A socket whose hello has been read."""
    client = RawClient(fuzzer.server, fuzzer.token)
    assert client.status == 101
    client.sock.settimeout(SECONDS)
    # Each write is on its way at once, or there would be no chops.
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert json.loads(client.next(TEXT).payload)["type"] == "hello"
    yield client
    client.sock.close()


def play(raw: RawClient, steps: Sequence[Step]) -> None:
    """Write what is to be written; all else must be received, in this order, and nothing else."""
    for step in steps:
        if isinstance(step, bytes):
            raw.sock.sendall(step)
        elif isinstance(step, Silence):
            raw.sock.settimeout(step.seconds)
            with pytest.raises(TimeoutError):
                heard(raw)
            raw.sock.settimeout(SECONDS)
        elif isinstance(step, Failed):
            assert heard(raw) == Closed(step.code)
            raw.sock.shutdown(socket.SHUT_WR)
        else:
            assert heard(raw) == step
    assert raw._buffer + raw.sock.recv(1) == b"", "after the close frame comes the end"


def heard(raw: RawClient) -> Step:
    """What the server says next, but for what it says of its own accord."""
    while True:
        opcode, payload = raw.next()
        if opcode == PONG:
            return Pong(payload)
        if opcode == CLOSE:
            return Closed(int.from_bytes(payload[:2]) if payload else 1005)
        if opcode == PING:
            continue
        assert opcode == TEXT
        frame = json.loads(payload)
        if frame["type"] == "error":
            return Refused(frame["code"])
        if frame["type"] == "pong":
            return echo(frame.get("client_id", ""))
        if frame["type"] == "message":
            return echo(frame["text"])


def each(table: dict[str, list[Step]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("steps", table.values(), ids=table)


@each(cases.FRAMING)
def test_messages_of_every_length_coding_are_read(raw: RawClient, steps: list[Step]) -> None:
    play(raw, steps)


@each(cases.PINGS)
def test_pings_are_answered_and_pongs_are_not(raw: RawClient, steps: list[Step]) -> None:
    play(raw, steps)


@each(cases.RESERVED_BITS)
def test_reserved_bits_fail_the_connection(raw: RawClient, steps: list[Step]) -> None:
    play(raw, steps)


@each(cases.RESERVED_OPCODES)
def test_reserved_opcodes_fail_the_connection(raw: RawClient, steps: list[Step]) -> None:
    play(raw, steps)


@each(cases.FRAGMENTS)
def test_fragments_are_put_together_or_refused(raw: RawClient, steps: list[Step]) -> None:
    play(raw, steps)


@each(UTF8)
def test_text_is_utf8_or_fails_the_connection(raw: RawClient, steps: list[Step]) -> None:
    play(raw, steps)


@each(cases.CLOSING)
def test_a_close_is_answered_and_a_broken_one_fails(raw: RawClient, steps: list[Step]) -> None:
    play(raw, steps)


def message(opcode: int, size: int) -> tuple[bytes, Step]:
    """A message of this size, and what the chat makes of it."""
    if opcode == BINARY:
        return (b"\x00\xfe\x23\xfa\xf0" * (size // 5 + 1))[:size], Refused()
    text = ("BAsd7&jh23" * (size // 10 + 1))[:size]
    return text.encode(), echo(text)


OPCODES = {1: TEXT, 2: BINARY}
WHOLE = {
    f"9.{group}.{number}": (OPCODES[group], size)
    for group in (1, 2)
    for number, size in enumerate([64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB], 1)
}


@pytest.mark.parametrize(("opcode", "size"), WHOLE.values(), ids=WHOLE)
def test_a_large_message_comes_through(raw: RawClient, opcode: int, size: int) -> None:
    payload, answer = message(opcode, size)
    play(raw, cleanly(encode(opcode, payload), answer))


FRAGMENTED = {
    f"9.{group}.{number}": (OPCODES[group - 2], 4 * MIB, fragment)
    for group in (3, 4)
    for number, fragment in enumerate([64 * 4**step for step in range(9)], 1)
} | {"10.1.1": (TEXT, 65_536, 1300)}


@pytest.mark.parametrize(("opcode", "size", "fragment"), FRAGMENTED.values(), ids=FRAGMENTED)
def test_a_large_message_in_fragments_comes_through(
    raw: RawClient, opcode: int, size: int, fragment: int
) -> None:
    payload, answer = message(opcode, size)
    play(raw, cleanly(b"".join(fragmented(opcode, payload, fragment)), answer))


CHOPPED = {
    f"9.{group}.{number}": (OPCODES[group - 4], MIB, chop)
    for group in (5, 6)
    for number, chop in enumerate([64, 128, 256, 512, 1024, 2048], 1)
}


@pytest.mark.parametrize(("opcode", "size", "chop"), CHOPPED.values(), ids=CHOPPED)
def test_a_large_message_in_chops_comes_through(
    raw: RawClient, opcode: int, size: int, chop: int
) -> None:
    payload, answer = message(opcode, size)
    play(raw, cleanly(*cut(encode(opcode, payload), chop), answer))


ROUND_TRIP_SIZES = [0, 16, 64, 256, 1024, 4096]
TEXTS = {f"9.7.{number}": size for number, size in enumerate(ROUND_TRIP_SIZES, 1)}
BINARIES = {f"9.8.{number}": size for number, size in enumerate(ROUND_TRIP_SIZES, 1)}


@pytest.mark.parametrize("size", TEXTS.values(), ids=TEXTS)
def test_text_after_text_is_answered(raw: RawClient, size: int) -> None:
    steps: list[Step] = []
    for number in range(ROUND_TRIPS if size else REFUSED_MAX):
        if size == 0:
            steps += [encode(TEXT), Refused()]
        elif size == 16:  # has no room for a client_id
            steps += [encode(TEXT, b'{"type": "ping"}'), echo("")]
        else:
            steps += [encode(TEXT, ping_of(str(number), size)), echo(str(number))]
    play(raw, cleanly(*steps))


@pytest.mark.parametrize("size", BINARIES.values(), ids=BINARIES)
def test_binary_after_binary_is_refused(raw: RawClient, size: int) -> None:
    trip: list[Step] = [encode(BINARY, b"\xfe" * size), Refused()]
    play(raw, cleanly(*trip * REFUSED_MAX))


def test_no_case_is_missing() -> None:
    small = [cases.FRAMING, cases.PINGS, cases.RESERVED_BITS, cases.RESERVED_OPCODES]
    small += [cases.FRAGMENTS, UTF8, cases.CLOSING]
    names = chain(*small, WHOLE, FRAGMENTED, CHOPPED, TEXTS, BINARIES)
    groups = Counter(int(name.partition(".")[0]) for name in names)
    assert groups == {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1}
