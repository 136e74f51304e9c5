"""The parts of the client that decide, without sockets: log, outbox, cache, frames."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bytechat.client import Ack, Cache, Limits, Message, Refused, Reset, Room, RoomChanged
from bytechat.client.log import EARLY_MAX, Log
from bytechat.client.outbox import IN_FLIGHT_MAX, Outbox
from bytechat.client.shapes import ErrorFrame, Hello, decode

from ...support.clients import revs
from ...support.fake_server import ROOM, WHEN, message

ACK = {"id": 1, "room": 1, "seq": 1, "rev": 1, "created_at": WHEN}


def said(rev: int, number: int | None = None, **changed: object) -> Message:
    return msgspec.convert(message(rev, number=number, **changed), Message)


@given(st.permutations(range(1, 30)), st.lists(st.integers(1, 29), max_size=20), st.data())
@settings(max_examples=200, deadline=None)
def test_pushes_in_any_order_and_number_come_out_once_each_and_in_order(
    order: list[int], repeats: list[int], data: st.DataObject
) -> None:
    pushes = list(order)
    for rev in repeats:
        pushes.insert(data.draw(st.integers(0, len(pushes))), rev)
    log = Log(0)
    got = [m.rev for rev in pushes for m in log.push(said(rev))]
    assert got == list(range(1, 30))
    assert not log.behind


@given(
    numbers=st.lists(st.integers(1, 12), min_size=1, max_size=60),
    since=st.integers(0, 60),
    before=st.integers(0, 60),
    page=st.integers(1, 7),
    pushes_first=st.lists(st.booleans(), min_size=1, max_size=10),
)
@settings(max_examples=300, deadline=None)
def test_a_log_that_is_read_by_pages_while_it_grows_gives_the_newest_of_each_message(
    numbers: list[int], since: int, before: int, page: int, pushes_first: list[bool]
) -> None:
    """``numbers`` are the messages that are said or changed, one rev after the other."""
    before = min(before, len(numbers))
    since = min(since, before)
    newest: dict[int, Message] = {}
    cache = Cache()
    log = Log(since)
    given_out: list[int] = []

    def take(messages: list[Message]) -> None:
        for one in messages:
            given_out.append(one.rev)
            cache.apply(one)

    def change(rev: int) -> Message:
        number = numbers[rev - 1]
        newest[number] = said(rev, number, text=f"rev {rev}")
        return newest[number]

    for rev in range(1, before + 1):
        change(rev)
        if rev == since:
            cache.add(newest.values())
    rev = before
    log.connected(before)
    turns = itertools.cycle(pushes_first)
    while log.behind or rev < len(numbers):
        if rev < len(numbers) and (next(turns) or not log.behind):
            rev += 1
            take(log.push(change(rev)))
        else:
            new = sorted((m for m in newest.values() if m.rev > log.position), key=lambda m: m.rev)
            take(log.page(new[:page], rev, more=len(new) > page))
    assert given_out == sorted(set(given_out))
    assert cache.messages(ROOM) == sorted(newest.values(), key=lambda m: m.seq)


def test_a_hello_behind_our_position_is_asked_about_and_not_believed() -> None:
    """A worker may not have given out yet what another one has: that is no other log."""
    log = Log(9)
    log.connected(7)
    assert log.behind
    assert log.push(said(8, 8)) == []
    assert log.page([], 9, more=False) == []
    assert (log.position, log.behind) == (9, False)
    assert [message.rev for message in log.push(said(10, 10))] == [10]


def test_another_log_is_begun_from_its_head() -> None:
    log = Log(500)
    log.connected(3)
    assert log.behind
    assert log.reset(3) == []
    assert (log.position, log.behind) == (3, False)
    assert [message.rev for message in log.push(said(4, 4))] == [4]


def test_what_was_heard_of_and_is_lost_is_not_asked_for_for_ever() -> None:
    """The database was restored, or handed over, between a message and its repetition."""
    log = Log(5)
    log.heard(10)
    log.push(said(9))
    log.connected(8)
    assert revs(log.page([said(6), said(7), said(8)], 8, more=False)) == [6, 7, 8]
    assert not log.behind
    new = said(9, 9)
    assert log.push(new) == [new]


def test_numbers_that_nothing_has_any_more_do_not_hold_a_log_up() -> None:
    log = Log(3)
    log.heard(9)
    assert log.page([], 9, more=False) == []
    assert (log.position, log.behind) == (9, False)


def test_what_comes_early_is_kept_up_to_a_bound_and_asked_for_then() -> None:
    log = Log(0)
    for rev in range(2, EARLY_MAX + 500):
        log.push(said(rev))
    assert len(log.push(said(1))) == EARLY_MAX + 1
    assert log.behind


def test_a_page_with_what_was_pushed_meanwhile_gives_only_the_rest() -> None:
    log = Log(0)
    log.heard(3)
    assert revs(log.push(said(1)) + log.push(said(2))) == [1, 2]
    assert revs(log.page([said(1), said(2), said(3)], 3, more=False)) == [3]


def test_after_a_reset_what_had_come_later_goes_on() -> None:
    log = Log(0)
    log.asked = True
    assert log.push(said(1999)) == log.push(said(2001)) == []
    assert revs(log.reset(2000)) == [2001]
    assert not log.behind


def test_of_two_copies_the_cache_keeps_the_one_with_the_larger_rev() -> None:
    cache = Cache()
    cache.add([said(5, 2, text="new"), said(1)])
    cache.apply(said(2, text="old"))
    assert [m.text for m in cache.messages(ROOM)] == ["text 1", "new"]
    cache.apply(Reset(ROOM, 9, (said(8),)))
    assert revs(cache.messages(ROOM)) == [8]
    cache.apply(RoomChanged(Room(id=ROOM)))
    assert revs(cache.messages(ROOM)) == [8]
    cache.apply(RoomChanged(Room(id=ROOM), gone=True))
    assert cache.messages(ROOM) == []


def outbox(number: int, *, rate: float = 0) -> Outbox:
    """A connected one, with so many messages."""
    box = Outbox(window=100)
    for n in range(number):
        box.put("lobby", str(n), f"c{n}", None)
    box.connected(Limits(rate=rate))
    return box


def texts(box: Outbox, now: float) -> list[str]:
    """All that it sends at this time."""
    return [msgspec.json.decode(frame)["text"] for frame in iter(lambda: box.next(now), None)]


def test_what_is_refused_for_now_waits_for_its_time_and_holds_back_what_is_behind_it() -> None:
    box = outbox(2)
    assert texts(box, now=0) == ["0", "1"]
    box.refused(ErrorFrame(code="busy", client_id="c0", retry_after=3), now=10)
    box.put("lobby", "2", "c2", None)
    assert (texts(box, now=12.9), box.due(12)) == ([], 1)
    assert texts(box, now=13) == ["0", "2"]
    assert box.due(13) is None


def test_after_a_rate_limit_the_rest_is_sent_at_the_rate_of_the_server() -> None:
    box = outbox(8, rate=5)
    texts(box, now=0)
    for n in range(2, 8):
        box.refused(ErrorFrame(code="rate_limited", client_id=f"c{n}", retry_after=1), now=0)
    assert texts(box, now=1) == ["2"]
    assert box.due(1) == pytest.approx(0.2)
    assert texts(box, now=1.21) == ["3"]


def test_where_there_is_a_rate_only_a_few_are_under_way() -> None:
    box = outbox(50, rate=5)
    assert len(texts(box, now=0)) == IN_FLIGHT_MAX
    assert box.due(0) is None
    box.acked(msgspec.convert({**ACK, "client_id": "c3"}, Ack))
    assert box.due(0) == 0
    assert texts(box, now=0) == [str(IN_FLIGHT_MAX)]
    assert len(texts(outbox(50), now=0)) == 50


def test_an_error_about_something_else_is_not_taken() -> None:
    assert not outbox(1).refused(ErrorFrame(code="busy"), now=0)
    assert not outbox(1).refused(ErrorFrame(code="busy", client_id="other"), now=0)


def test_a_second_answer_does_no_harm() -> None:
    box = outbox(1)
    handle = box.find("c0")
    assert handle is not None
    for _ in range(2):
        box.acked(msgspec.convert({**ACK, "client_id": "c0"}, Ack))
    for tell in box.settled():
        tell()
    assert handle.result(0).seq == 1
    assert len(box) == 0


def test_half_a_surrogate_pair_is_refused_and_takes_no_place() -> None:
    box = Outbox(window=1)
    with pytest.raises(ValueError, match="surrogates"):
        box.put("lobby", "\ud800", "c", None)
    assert len(box) == 0


@pytest.mark.parametrize("client_id", ["", "x" * 65, "a\0b"])
def test_a_name_that_no_server_takes_is_refused_here_and_takes_no_place(client_id: str) -> None:
    """The server's refusal would not say whose it is: the place would never be free again."""
    box = Outbox(window=1)
    with pytest.raises(ValueError, match="client_id"):
        box.put("lobby", "hi", client_id, None)
    assert len(box) == 0


def test_a_reply_names_what_it_answers_and_others_name_nothing() -> None:
    box = Outbox(window=2)
    box.put(7, "yes", "c1", 42)
    box.put(7, "no", "c2", None)
    box.connected(Limits())
    frames = [msgspec.json.decode(box.next(0) or b"null") for _ in range(2)]
    assert frames[0]["reply_to"] == 42
    assert "reply_to" not in frames[1]


def test_a_message_of_a_later_version_is_read_and_a_frame_of_one_passed_over() -> None:
    extra = {"type": "message", **message(3), "stars": 5, "deleted": True}
    del extra["text"]
    read = decode(msgspec.json.encode(extra))
    assert isinstance(read, Message)
    assert (read.deleted, read.text) == (True, "")
    assert decode(b'{"type":"confetti"}') is None
    assert decode(b'{"kind":"no type"}') is None
    hello = decode(b'{"type":"hello","protocol":1,"user":{"id":1,"username":"a"}}')
    assert isinstance(hello, Hello)


def test_a_refusal_says_its_code_and_its_reason() -> None:
    assert str(Refused("not_found", "There is no such room.")) == (
        "not_found: There is no such room."
    )
