"""The connection: every byte through one outbox, in order, bounded."""

from __future__ import annotations

import errno
import random
import socket
from threading import Barrier, Thread
from time import monotonic

import pytest
from wsproto.events import CloseConnection

from bytechat.realtime import connection as module
from bytechat.realtime.closing import Code
from bytechat.realtime.framing import text_frame

from ..support.pair import (
    SECONDS,
    HesitantSocket,
    Line,
    MakeLine,
    events_of,
    texts_of,
    wait_until,
    wait_until_quiet,
)
from ..support.raw import CLOSE, TEXT

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
