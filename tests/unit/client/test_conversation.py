"""What the client makes of each frame, without a socket: rooms that come and go, a slow program."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bytechat.client import Connected, Event, Message, Reset, RoomChanged
from bytechat.client.conversation import SYNC_AGAIN, Conversation

from ...support.fake_server import ALICE, ROOM, Frame, message


def room(number: int, head: int = 0, **more: object) -> Frame:
    return {"id": number, "name": f"room {number}", "kind": "public", "head": head, **more}


def hear(talk: Conversation, name: str, /, *, now: float = 0, **fields: Any) -> list[Event]:
    """The events that a frame makes."""
    talk.receive(msgspec.json.encode({"type": name, **fields}), now)
    return list(iter(talk.take, None))


def hello(talk: Conversation, *rooms: Frame) -> list[Event]:
    return hear(talk, "hello", protocol=1, user=ALICE, rooms=rooms)


def asks(talk: Conversation, now: float = 0) -> list[tuple[int, int]]:
    """Room and rev of each ``sync`` that is sent now."""
    frames = [msgspec.json.decode(frame) for frame in iter(lambda: talk.next_frame(now), None)]
    return [(frame["room"], frame["since"]) for frame in frames]


def conversation(since: dict[int, int] | None = None, backlog: int = 100) -> Conversation:
    return Conversation(since or {}, window=10, backlog=backlog)


def test_each_room_is_asked_for_where_it_is_behind_and_only_there() -> None:
    talk = conversation({1: 5, 2: 7})
    hello(talk, room(1, head=9), room(2, head=7), room(3, head=100))
    assert asks(talk) == [(1, 5)]
    assert talk.due(0) is None
    assert talk.positions == {1: 5, 2: 7, 3: 100}


def test_positions_that_were_given_are_there_before_the_first_hello() -> None:
    talk = conversation({1: 5, 9: 3})
    assert talk.positions == {1: 5, 9: 3}
    hello(talk, room(1, head=9), room(2, head=7))
    assert talk.positions == {1: 5, 2: 7, 9: 3}


def test_after_another_hello_it_is_asked_again() -> None:
    talk = conversation({1: 5})
    hello(talk, room(1, head=9))
    assert asks(talk) == [(1, 5)]
    hello(talk, room(1, head=9))
    assert asks(talk) == [(1, 5)]


def test_a_page_that_nobody_asked_for_is_passed_over() -> None:
    talk = conversation()
    hello(talk, room(1, head=3))
    page: Frame = {"room": 1, "messages": [message(9)], "head": 9, "more": False}
    assert hear(talk, "sync", **page) == []
    assert hear(talk, "reset", room=1, head=9) == []
    assert hear(talk, "sync", **{**page, "room": 8}) == []


def test_a_room_that_is_joined_begins_and_one_that_is_left_ends() -> None:
    talk = conversation()
    hello(talk, room(1))
    (joined,) = hear(talk, "room", **room(2, head=4))
    assert isinstance(joined, RoomChanged)
    assert (joined.room.id, joined.gone, sorted(talk.rooms)) == (2, False, [1, 2])
    (said,) = hear(talk, "message", **message(5) | {"room": 2})
    assert isinstance(said, Message)
    (renamed,) = hear(talk, "room", **room(2, head=99, topic="new"))
    assert isinstance(renamed, RoomChanged)
    assert (renamed.room.topic, asks(talk)) == ("new", [])
    (left,) = hear(talk, "room", id=2, gone=True)
    assert isinstance(left, RoomChanged)
    assert (left.room.id, left.gone, list(talk.rooms)) == (2, True, [1])
    talk.done(said)
    talk.done(left)
    assert talk.positions == {1: 0}


def test_a_room_that_was_left_meanwhile_is_told_at_the_next_hello() -> None:
    talk = conversation()
    hello(talk, room(1), room(2))
    _, left = hello(talk, room(1))
    assert isinstance(left, RoomChanged)
    assert (left.room.id, left.gone) == (2, True)


def test_a_push_may_come_before_the_news_of_its_room() -> None:
    talk = conversation()
    hello(talk, room(1))
    (said,) = hear(talk, "message", **message(7) | {"room": 5})
    assert isinstance(said, Message)
    assert asks(talk) == []


@pytest.mark.parametrize(("retry_after", "wait"), [(3, 3), (None, SYNC_AGAIN)])
def test_a_sync_that_is_refused_is_asked_again_after_a_while(
    retry_after: float | None, wait: float
) -> None:
    talk = conversation({1: 5})
    hello(talk, room(1, head=9))
    asks(talk)
    hear(talk, "error", now=100, code="unavailable", detail="No.", retry_after=retry_after)
    assert (asks(talk, now=100), talk.due(100)) == ([], wait)
    assert asks(talk, now=100 + wait) == [(1, 5)]


@pytest.mark.parametrize("backlog", [1, 2, 10])
def test_a_full_backlog_keeps_no_more_and_asks_when_there_is_room(backlog: int) -> None:
    talk = conversation(backlog=backlog)
    talk.receive(msgspec.json.encode({"type": "hello", "protocol": 1, "user": ALICE}), 0)
    talk.receive(msgspec.json.encode({"type": "room", **room(ROOM)}), 0)
    for rev in range(1, 51):
        talk.receive(msgspec.json.encode({"type": "message", **message(rev)}), 0)
    assert len(talk.events) <= backlog
    assert asks(talk) == [], "not while it is full"
    got: list[int] = []
    for _ in range(100):
        while event := talk.take():
            if isinstance(event, Message):
                got.append(event.rev)
        for _room, since in asks(talk):
            page = [message(rev) for rev in range(since + 1, min(since + 8, 51))]
            frame = {"type": "sync", "room": ROOM, "messages": page, "head": 50, "more": True}
            talk.receive(msgspec.json.encode(frame), 0)
    assert got == list(range(1, 51))


def test_a_page_that_comes_when_the_backlog_is_full_is_asked_for_again() -> None:
    talk = conversation({ROOM: 0}, backlog=2)
    hello(talk, room(ROOM, head=3))
    assert asks(talk) == [(ROOM, 0)]
    for _ in range(2):
        talk.tell(RoomChanged(talk.rooms[ROOM]))
    talk.receive(msgspec.json.encode({"type": "reset", "room": ROOM, "head": 3}), 0)
    assert not any(isinstance(event, Reset) for event in talk.events)
    while talk.take():
        pass
    assert asks(talk) == [(ROOM, 0)]


def test_news_of_the_connection_do_not_pile_up_in_front_of_a_program_that_does_not_read() -> None:
    talk = conversation(backlog=5)
    for _ in range(100):
        talk.receive(msgspec.json.encode({"type": "hello", "protocol": 1, "user": ALICE}), 0)
    assert len(talk.events) == 5
    assert all(isinstance(event, Connected) for event in talk.events)
