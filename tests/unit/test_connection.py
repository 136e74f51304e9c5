"""The connection: every byte through one outbox, in order, bounded; and a strict reader."""

from __future__ import annotations

import contextlib
import errno
import math
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from threading import Barrier, Lock, Thread
from time import monotonic, sleep
from typing import cast

import pytest
from wsproto.connection import Connection as Protocol
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, Event, TextMessage

from bytechat.realtime import connection as module
from bytechat.realtime.closing import Code
from bytechat.realtime.connection import PING as PING_FRAME
from bytechat.realtime.connection import Connection, text_frame

from ..support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode

SECONDS = 5.0


class GreenletSocket:
    """As gevent's sockets: the one inside answers at once; this one waits, and may send a part."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._sock.recv(size)
            except BlockingIOError:
                select.select([self._sock], [], [])

    def close(self) -> None:
        self._sock.close()

    def sendmsg(self, chunks: list[bytes]) -> int:
        while True:
            try:
                return self._sock.sendmsg(chunks)
            except BlockingIOError:
                select.select([], [self._sock], [])


class HesitantSocket:
    """Sends a part, and lets all others run before it says so."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes, flags: int) -> int:
        sent = self._sock.send(data[:100], flags)
        sleep(0.001)
        return sent

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)


class Line:
    """A connection, and its peer at the other end of the line."""

    def __init__(self, *, greenlets: bool, frame_max: int = 0, outbox_max: int = 0) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(SECONDS)
        # The smallest that the kernel grants: a peer that does not read is soon felt.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.ours = ours
        self.connection = Connection(
            cast("socket.socket", GreenletSocket(ours)) if greenlets else ours,
            owner=1,
            token="jti",
            expires_at=float("inf"),
            frame_max=frame_max,
            outbox_max=outbox_max,
            lock=Lock(),
        )
        self.received: list[str | None] = []
        self._thread = Thread(target=self.connection.serve, args=(self.received.append,))

    def serve(self) -> None:
        """Let the connection read, in a thread of its own."""
        self._thread.start()

    def ended(self) -> None:
        """Wait until the connection has stopped to read."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        self.peer.sendall(encode(opcode, payload, fin=fin, rsv=rsv))

    def exactly(self, size: int) -> bytes:
        """The next bytes that the peer is sent."""
        data = b""
        while len(data) < size:
            more = self.peer.recv(min(65_536, size - len(data)))
            assert more, "the connection has hung up"
            data += more
        return data

    def frame(self) -> tuple[int, bytes]:
        """The next frame that the peer is sent: opcode and payload."""
        first, size = self.exactly(2)
        assert first & 0x80, "a server's frames are whole"
        if size == 126:
            (size,) = struct.unpack("!H", self.exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.exactly(8))
        assert size < 2**32, "a server does not mask, and nothing is torn"
        return first & 0x0F, self.exactly(size)

    def closed(self) -> int:
        """The code of the close frame, which must be the next one."""
        opcode, payload = self.frame()
        assert opcode == CLOSE
        return int(struct.unpack("!H", payload[:2])[0]) if payload else 1005

    def rest(self) -> bytes:
        """What the peer is still sent, until the end."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.peer.recv(65_536):
                data += more
        return data

    def hang_up(self) -> None:
        self.connection.abandon()
        if self._thread.is_alive():
            self._thread.join(SECONDS)
        self.ours.close()
        self.peer.close()


MakeLine = Callable[..., Line]


@pytest.fixture(params=["greenlets", "threads"])
def make_line(request: pytest.FixtureRequest) -> Iterator[MakeLine]:
    """Makes lines, with a socket as in gunicorn and as under `flask run`; takes limits."""
    with contextlib.ExitStack() as stack:

        def make(**limits: int) -> Line:
            made = Line(greenlets=request.param == "greenlets", **limits)
            stack.callback(made.hang_up)
            return made

        yield make


@pytest.fixture
def line(make_line: MakeLine) -> Line:
    return make_line(frame_max=100, outbox_max=100_000)


@pytest.fixture
def open_line(line: Line) -> Line:
    """A line on which the hello was said and the peer is being heard."""
    line.connection.open(text_frame(b"hello"))
    assert line.frame() == (TEXT, b"hello")
    line.serve()
    return line


def events_of(stream: bytes) -> list[Event]:
    """The messages and the close frame in a server's stream, as wsproto's client reads it."""
    client = Protocol(ConnectionType.CLIENT)
    client.receive_data(stream)
    return list(client.events())


def texts_of(stream: bytes) -> list[str]:
    """The text messages of a server's stream, put together."""
    texts, parts = [], ""
    for event in events_of(stream):
        if isinstance(event, TextMessage):
            parts += event.data
            if event.message_finished:
                texts.append(parts)
                parts = ""
    assert not parts, "the stream ends within a frame"
    return texts


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = monotonic() + SECONDS
    while not condition():
        assert monotonic() < deadline, "it never came to pass"
        sleep(0.001)


def wait_until_quiet(line: Line) -> None:
    """Wait until the writer has filled the kernel's buffers and waits for the peer."""
    waiting, since = line.connection._waiting, monotonic()
    while monotonic() - since < 0.05:
        sleep(0.005)
        if line.connection._waiting != waiting:
            waiting, since = line.connection._waiting, monotonic()


# Encoding.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_frame_of_any_size_is_read_by_another_implementation(size: int) -> None:
    assert texts_of(text_frame(b"x" * size) + text_frame(b"next")) == ["x" * size, "next"]


# The outbox.


def test_hello_comes_first_even_if_pushes_came_before_it(line: Line) -> None:
    for text in (b"one", b"two"):
        line.connection.push(text_frame(text))
    line.peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        line.peer.recv(1)  # not even a byte before the hello
    line.peer.settimeout(SECONDS)
    line.connection.open(text_frame(b"hello"))
    line.connection.push(text_frame(b"three"))
    assert [line.frame()[1] for _ in range(4)] == [b"hello", b"one", b"two", b"three"]


def test_what_a_slow_peer_could_not_take_at_once_follows_in_order(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(text_frame(b"hello"))
    numbers = random.Random(1)
    texts = [f"{number} ".encode() + b"x" * numbers.randrange(20_000) for number in range(100)]
    for text in texts:
        line.connection.push(text_frame(text))
    wait_until_quiet(line)
    assert line.connection._waiting > 500_000, "the peer was not slow"
    expected = b"".join(text_frame(text) for text in [b"hello", *texts])
    assert line.exactly(len(expected)) == expected
    wait_until(lambda: line.connection._waiting == 0)
    # And from here on the outbox is empty again: straight to the kernel.
    line.connection.push(text_frame(b"after"))
    assert line.frame() == (TEXT, b"after")


@pytest.mark.parametrize("count", [1, 2, 10, 64, 65, 200])
def test_batches_that_are_pushed_together_arrive_in_order_and_whole(
    make_line: MakeLine, count: int
) -> None:
    line = make_line()
    line.connection.open(b"")
    numbers = random.Random(count)
    texts = [f"{number} ".encode() + b"x" * numbers.randrange(500) for number in range(count)]
    together = [text_frame(text) for text in texts]
    for _ in range(100):  # the first ones go through, then the peer's buffers are full
        line.connection.push(*together)
    if count > 10:
        wait_until_quiet(line)
        assert line.connection._waiting > 0, "the peer was not slow"
    expected = b"".join(together) * 100
    assert line.exactly(len(expected)) == expected
    wait_until(lambda: line.connection._waiting == 0)


def test_a_frame_that_the_kernel_has_no_memory_for_is_the_last(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(text_frame(b"hello"))

    class Poor:
        def send(self, _data: bytes, _flags: int) -> int:
            raise OSError(errno.ENOBUFS, "No buffer space available")

        def shutdown(self, how: int) -> None:
            line.ours.shutdown(how)

    rich, line.connection._raw = line.connection._raw, Poor()
    line.connection.push(text_frame(b"lost"))
    line.connection._raw = rich
    line.connection.push(text_frame(b"after a gap"))
    assert texts_of(line.rest()) == ["hello"]


def test_what_came_with_the_handshake_is_read_first(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    frame = encode(TEXT, b"early")
    line.peer.sendall(frame[5:] + encode(CLOSE))
    line.connection.serve(line.received.append, frame[:5])
    assert line.received == ["early"]


def test_a_peer_is_not_silent_while_its_reader_is_held_back(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    seen: list[float] = []
    line.peer.sendall(encode(TEXT, b"hold on") + encode(CLOSE))
    line.connection.serve(lambda _text: seen.append(line.connection.heard_at))
    assert seen == [math.inf]


def test_a_peer_that_takes_nothing_while_it_is_waited_for_is_closed(
    make_line: MakeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.05)
    line = make_line()
    line.connection.open(b"")
    line.connection.push(text_frame(b"x" * 500_000))
    wait_until_quiet(line)
    flushed = Thread(target=line.connection.flush)
    flushed.start()
    wait_until(lambda: line.connection.close_code == Code.TOO_SLOW)
    line.connection.abandon()  # as the pulse does, when the close is not answered
    flushed.join(SECONDS)
    assert not flushed.is_alive()


def test_to_flush_waits_until_the_peer_has_taken_all(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    line.connection.flush()  # nothing waits
    line.connection.push(text_frame(b"x" * 500_000))
    flushed = Thread(target=line.connection.flush)
    flushed.start()
    flushed.join(0.05)
    assert flushed.is_alive(), "the peer has not read yet"
    assert line.frame() == (TEXT, b"x" * 500_000)
    flushed.join(SECONDS)
    assert not flushed.is_alive()


def test_a_flush_ends_with_the_socket(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    line.connection.push(text_frame(b"x" * 500_000))
    flushed = Thread(target=line.connection.flush)
    flushed.start()
    wait_until_quiet(line)
    line.connection.abandon()
    flushed.join(SECONDS)
    assert not flushed.is_alive()
    line.connection.flush()


def test_pushes_while_the_peer_reads_keep_their_order(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    texts = [f"{number} ".encode() + b"x" * (number % 7 * 1000) for number in range(500)]

    def push_all() -> None:
        for text in texts:
            line.connection.push(text_frame(text))

    pusher = Thread(target=push_all)
    pusher.start()
    assert [line.frame() for _ in texts] == [(TEXT, text) for text in texts]
    pusher.join(SECONDS)


def test_two_that_push_at_once_never_tear_each_others_frames(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    line.connection._raw = HesitantSocket(line.ours)
    count, threads = 100, 4
    together = Barrier(threads)

    def push_mine(name: int) -> None:
        together.wait(SECONDS)
        for number in range(count):
            filler = "x" * ((name * 997 + number * 131) % 5000)
            line.connection.push(text_frame(f"{name} {number} {filler}".encode()))

    pushers = [Thread(target=push_mine, args=(name,)) for name in range(threads)]
    for pusher in pushers:
        pusher.start()
    seen: dict[str, list[int]] = {str(name): [] for name in range(threads)}
    for _ in range(count * threads):
        opcode, payload = line.frame()
        assert opcode == TEXT
        name, number, filler = payload.decode().split(" ")
        assert set(filler) <= {"x"}
        seen[name].append(int(number))
    for pusher in pushers:
        pusher.join(SECONDS)
    assert all(numbers == list(range(count)) for numbers in seen.values())


@pytest.mark.parametrize("size", [500, 20_000])
def test_a_peer_that_is_too_slow_is_closed_and_its_stream_is_whole_frames(
    size: int, make_line: MakeLine
) -> None:
    line = make_line(outbox_max=100_000)
    line.connection.open(text_frame(b"hello"))
    sent = ["hello"]
    while line.connection.close_code != Code.TOO_SLOW:
        text = f"{len(sent)} " + "x" * size
        line.connection.push(text_frame(text.encode()))
        sent.append(text)
        assert line.connection._waiting <= 100_000 + size + 100, "the outbox has no bound"
        if len(sent) % 50 == 0:
            wait_until_quiet(line)
    wait_until_quiet(line)
    line.connection.push(text_frame(b"never"))
    line.connection.close(Code.TOKEN_ENDED)  # it is closed already
    line.peer.shutdown(socket.SHUT_WR)
    data = b""
    while (close := data.rfind(b"\x88")) < 0 or b"too slow" not in data[close:]:
        data += line.peer.recv(65_536)
    assert texts_of(data) == sent[: len(texts_of(data))], "in order, without a gap, then cut"
    *_, last = events_of(data)
    assert isinstance(last, CloseConnection)
    assert last.code == 4408


def test_what_a_peer_that_is_too_slow_will_not_get_is_let_go(make_line: MakeLine) -> None:
    line = make_line(outbox_max=10_000_000)
    line.connection.open(b"")
    line.connection.push(text_frame(b"x" * 1_000_000))  # fills the kernel's buffers
    wait_until_quiet(line)
    for _ in range(10):
        line.connection.push(text_frame(b"y" * 1_000_000))
    assert line.connection.close_code == Code.TOO_SLOW
    # One system call's chunks may be half sent, so they stay; nothing else does.
    assert line.connection._waiting < 1_100_000


def test_an_outbox_that_fills_before_the_hello_is_bounded_too(make_line: MakeLine) -> None:
    line = make_line(outbox_max=10_000)
    for _ in range(20):
        line.connection.push(text_frame(b"x" * 1000))
    assert line.connection.close_code == Code.TOO_SLOW
    line.connection.open(text_frame(b"hello"))
    opcode, payload = line.frame()
    while opcode != CLOSE:
        assert payload == b"x" * 1000
        opcode, payload = line.frame()
    assert payload[:2] == (4408).to_bytes(2, "big")


def test_many_tiny_frames_fill_an_outbox_by_what_keeping_them_costs(make_line: MakeLine) -> None:
    line = make_line(outbox_max=100_000)
    pushed = 0
    while line.connection.close_code != Code.TOO_SLOW:
        line.connection.push(text_frame(b""))
        pushed += 1
        assert pushed < 10_000, "an empty frame in a deque takes far more than its two bytes"


def test_zero_is_no_limit_for_the_outbox(make_line: MakeLine) -> None:
    line = make_line(outbox_max=0)
    line.connection.open(b"")
    for _ in range(30):
        line.connection.push(text_frame(b"x" * 100_000))
    assert line.connection.close_code == Code.ABNORMAL
    assert all(line.frame() == (TEXT, b"x" * 100_000) for _ in range(30))


def test_a_peer_that_is_gone_costs_a_push_nothing(line: Line) -> None:
    line.connection.open(b"")
    line.peer.close()
    for _ in range(10):
        line.connection.push(text_frame(b"x" * 10_000))
    line.serve()
    line.ended()
    assert line.connection._waiting <= 100_000


# Closing.


def test_the_close_frame_is_sent_once_and_after_what_was_pushed(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    line.connection.push(text_frame(b"x" * 1_000_000))
    line.connection.push(text_frame(b"last"))
    line.connection.close(Code.RESTART, "the server restarts")
    line.connection.close(Code.TOKEN_ENDED, "signed out")
    line.connection.push(text_frame(b"too late"))
    assert line.frame() == (TEXT, b"x" * 1_000_000)
    assert line.frame() == (TEXT, b"last")
    assert line.frame() == (CLOSE, (1012).to_bytes(2, "big") + b"the server restarts")
    line.ours.shutdown(socket.SHUT_WR)
    assert line.rest() == b""
    assert line.connection.close_code == 1012


def test_closed_before_its_hello_a_peer_is_told_the_code_and_nothing_else(line: Line) -> None:
    line.connection.push(text_frame(b"not for you"))
    line.connection.close(Code.TOKEN_ENDED, "signed out")
    line.connection.open(text_frame(b"hello"))
    assert line.closed() == 4401
    line.ours.shutdown(socket.SHUT_WR)
    assert line.rest() == b""


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


def test_a_peer_that_does_not_answer_our_close_is_overdue_and_can_be_cut_off(
    open_line: Line,
) -> None:
    moment = monotonic()
    assert not open_line.connection.overdue(moment + 3600), "nobody has closed yet"
    open_line.connection.close(Code.GOING_AWAY)
    assert not open_line.connection.overdue(moment)
    assert open_line.connection.overdue(monotonic() + module.CLOSE_SECONDS + 0.01)
    open_line.connection.abandon()
    open_line.ended()  # the reader was woken up
    assert open_line.closed() == 1001
    assert open_line.rest() == b""


def test_a_peer_that_was_too_slow_gets_longer_to_read_why(line: Line) -> None:
    line.connection.open(b"")
    wait_until_quiet(line)
    line.connection.push(text_frame(b"x" * 2_000_000))
    assert line.connection.close_code == Code.TOO_SLOW
    assert not line.connection.overdue(monotonic() + module.CLOSE_SECONDS + 1)
    assert line.connection.overdue(monotonic() + module.TOO_SLOW_SECONDS + 0.01)


def test_an_overflow_by_the_close_frame_itself_is_what_the_log_says_too(
    make_line: MakeLine,
) -> None:
    line = make_line(outbox_max=10_000_000)
    line.connection.open(b"")
    line.connection.push(text_frame(b"x" * 1_000_000))
    wait_until_quiet(line)
    line.connection._outbox_max = line.connection._waiting  # not a byte more
    line.connection.close(Code.GOING_AWAY)
    assert line.frame() == (TEXT, b"x" * 1_000_000)
    assert line.closed() == line.connection.close_code


def test_to_abandon_a_peer_frees_the_writer_that_waits_for_it(make_line: MakeLine) -> None:
    line = make_line()
    line.connection.open(b"")
    line.serve()
    line.connection.push(text_frame(b"x" * 5_000_000))
    wait_until_quiet(line)
    line.connection.abandon()
    line.ended()
    wait_until(lambda: not line.connection._outbox)
    line.connection.push(text_frame(b"too late"))
    assert not line.connection._outbox


# Reading.


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

    line.connection.serve(receive)
    assert received == ["close me"]
    assert line.closed() == 4400


def test_a_ping_is_answered_with_its_payload(open_line: Line) -> None:
    for payload in (b"", b"are you there", bytes(125)):
        open_line.send(PING, payload)
        assert open_line.frame() == (PONG, payload)


def test_our_ping_is_one_that_peers_understand(open_line: Line) -> None:
    open_line.connection.push(PING_FRAME)
    assert open_line.frame() == (PING, b"")


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
    assert open_line.connection._parts == []
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
    assert open_line.connection._parts == []


def test_zero_is_no_limit_for_a_message(make_line: MakeLine) -> None:
    line = make_line(frame_max=0)
    line.connection.open(b"")
    line.serve()
    line.send(TEXT, b"x" * 300_000)
    line.send(CLOSE)
    line.ended()
    assert line.received == ["x" * 300_000]
