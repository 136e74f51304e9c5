"""What a client receives is the log: each change once, in order, across breaks."""

from __future__ import annotations

from contextlib import closing

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from bytechat.client import Client, Refused, Reset, Unreachable

from ...support.clients import SECONDS, TOKEN, revs, take, wait_for
from ...support.fake_server import BOB, ROOM, FakeServer, Frame, problem


def test_a_reader_gets_each_change_once_in_order_across_breaks(
    server: FakeServer, alice: Client
) -> None:
    for number in range(40):
        if number % 10 == 5:
            server.cut(1001 if number % 20 == 5 else None)
        server.say(str(number))
    got = take(alice, 40)
    assert revs(got) == list(range(1, 41))
    assert [m.text for m in got] == [str(number) for number in range(40)]


def test_repeated_and_reordered_pushes_do_no_harm(server: FakeServer, alice: Client) -> None:
    held: list[Frame] = []

    def shuffle(frame: Frame) -> list[Frame]:
        """Every second frame comes after the next one, and each of them twice."""
        if frame["rev"] % 2:
            held.append(frame)
            return []
        return [frame, held[-1], frame, held[-1]]

    server.push = shuffle
    for _ in range(20):
        server.say()
    assert revs(take(alice, 20)) == list(range(1, 21))
    with pytest.raises(TimeoutError):
        alice.receive(0.1)


def test_a_lost_push_is_asked_for(server: FakeServer, alice: Client) -> None:
    server.push = lambda frame: [] if frame["rev"] in {2, 3, 4, 5, 6} else [frame]
    for _ in range(8):
        server.say()
    assert revs(take(alice, 8)) == list(range(1, 9))


def test_a_program_starts_where_it_left_off(server: FakeServer) -> None:
    for _ in range(10):
        server.say()
    server.change(2, text="changed")
    with closing(Client(server.url, TOKEN, since={"lobby": 4})) as client:
        got = take(client, 7)
        assert revs(got) == [5, 6, 7, 8, 9, 10, 11]
        assert (got[-1].id, got[-1].text, got[-1].changed) == (2, "changed", True)
        assert [frame["since"] for frame in server.of_type("sync")] == [4, 7, 10]
    with closing(Client(server.url, TOKEN, since={ROOM: 10})) as client:
        assert revs(take(client, 1)) == [11]


def test_without_a_position_a_program_starts_from_now_on(server: FakeServer) -> None:
    server.say("before")
    with closing(Client(server.url, TOKEN)) as client:
        client.connected(SECONDS)
        server.say("after")
        assert [m.text for m in take(client, 1)] == ["after"]


def test_positions_count_what_the_program_has_finished_with(
    server: FakeServer, alice: Client
) -> None:
    assert alice.positions == {ROOM: 0}
    server.say()
    server.say()
    take(alice, 1)
    assert alice.positions == {ROOM: 0}
    take(alice, 1)
    assert alice.positions == {ROOM: 1}


def test_what_is_pushed_during_a_sync_comes_after_it_and_once(server: FakeServer) -> None:
    for _ in range(6):
        server.say()
    pages = 0

    def speak_meanwhile(_socket: object, frame: Frame) -> bool:
        nonlocal pages
        if frame["type"] == "sync":
            pages += 1
            server.say("meanwhile")
            if pages == 2:
                server.change(1, text="changed meanwhile")
        return False

    server.intercept = speak_meanwhile
    with closing(Client(server.url, TOKEN, since={ROOM: 2})) as client:
        got = take(client, 5 + pages)
        seen = revs(got)
        while pages and seen[-1] < server.head:
            seen += revs(take(client, 1))
    assert seen == sorted(set(seen))
    assert {m["rev"] for m in server._log.values() if m["rev"] > 2} <= set(seen)


def test_who_is_too_far_behind_is_told_and_given_the_newest_page(server: FakeServer) -> None:
    server.reset_after = 60
    for _ in range(100):
        server.say()
    with closing(Client(server.url, TOKEN, since={ROOM: 3})) as client:
        reset = wait_for(client, Reset)
        assert (reset.room, reset.head) == (ROOM, 100)
        assert [m.seq for m in reset.messages] == list(range(51, 101))
        server.say("after")
        assert revs(take(client, 1)) == [101]
        assert client.positions == {ROOM: 100}


def test_a_log_that_has_gone_back_is_a_reset(server: FakeServer) -> None:
    """The server's database was restored from a backup: old positions mean nothing."""
    server.say("restored")
    with closing(Client(server.url, TOKEN, since={ROOM: 500})) as client:
        reset = wait_for(client, Reset)
        assert (reset.head, [m.text for m in reset.messages]) == (1, ["restored"])
        server.say("new")
        assert revs(take(client, 1)) == [2]


def test_a_sync_that_was_refused_for_now_is_asked_again(server: FakeServer) -> None:
    server.say()
    refused: list[Frame] = []

    def refuse_once(socket: object, frame: Frame) -> bool:
        if refused:
            return False
        refused.append(frame)
        server.to_all({"type": "error", "code": "unavailable", "detail": "No.", "retry_after": 0})
        return True

    server.intercept = refuse_once
    with closing(Client(server.url, TOKEN, since={ROOM: 0})) as client:
        assert revs(take(client, 1)) == [1]


def test_a_program_that_does_not_read_is_not_buried_and_misses_nothing(
    server: FakeServer,
) -> None:
    with closing(Client(server.url, TOKEN, backlog=10)) as client:
        client.connected(SECONDS)
        for _ in range(100):
            server.say()
        client.send("lobby", "acks go on").result(SECONDS)
        assert len(client._conversation.events) <= 10
        assert revs(take(client, 101)) == list(range(1, 102))


def test_fields_and_types_of_later_versions_are_passed_over(
    server: FakeServer, alice: Client
) -> None:
    server.to_all({"type": "confetti", "colours": 7})
    server.to_all({"type": "typing", "room": ROOM, "user": BOB})
    server.say("plain", importance={"level": 3})
    assert [m.text for m in take(alice, 1)] == ["plain"]


def test_a_reset_waits_until_the_newest_page_can_be_read(server: FakeServer) -> None:
    server.reset_after = 0
    server.say("newest")
    server.history_refusals = [problem(503, "unavailable", Retry_After="1")] * 3
    with closing(Client(server.url, TOKEN, since={ROOM: 0})) as client:
        assert [m.text for m in wait_for(client, Reset).messages] == ["newest"]


def test_a_reset_whose_page_cannot_be_read_in_time_is_not_lost(server: FakeServer) -> None:
    server.reset_after = 0
    server.say("newest")
    server.history_refusals = [problem(503, "unavailable", Retry_After="1")] * 4
    with closing(Client(server.url, TOKEN, since={ROOM: 0})) as client:
        client.connected(SECONDS)
        timed_out = 0
        while True:
            try:
                event = client.receive(0.01)
            except TimeoutError:
                timed_out += 1
                continue
            if isinstance(event, Reset):
                break
        assert [message.text for message in event.messages] == ["newest"]
        assert timed_out >= 4


def test_a_reset_of_a_room_that_may_not_be_read_any_more_is_empty(server: FakeServer) -> None:
    server.reset_after = 0
    server.say("secret")
    server.history_refusals = [problem(404, "not_found")]
    with closing(Client(server.url, TOKEN, since={ROOM: 0})) as client:
        assert wait_for(client, Reset).messages == ()


def test_the_token_does_not_follow_a_redirect(server: FakeServer, alice: Client) -> None:
    server.history_refusals = [problem(302, "", Location="http://elsewhere.example/")]
    with pytest.raises(Refused, match="elsewhere") as refused:
        alice.history("lobby")
    assert refused.value.status == 302


def test_what_is_not_bytechat_is_an_error_of_its_own(server: FakeServer, alice: Client) -> None:
    server.history_refusals = [Response(200, "OK", Headers({"Content-Length": "5"}), b"hello")]
    with pytest.raises(Unreachable, match="not as ByteChat"):
        alice.history("lobby")
