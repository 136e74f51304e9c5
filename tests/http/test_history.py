"""A room over HTTP: its pages, ascending, what is before and after, and its changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, insert

from bytechat import create_app, storage
from bytechat.auth.schemas import Account
from bytechat.chat.journal import Journal
from bytechat.chat.posts import Post
from bytechat.models import Member, Room, now
from bytechat.storage import transaction

from ..conftest import KINDS, sign_in
from ..support.databases import Databases, settings
from .conftest import Shared
from .problems import problem

LOBBY = 1
#: Messages of the lobby: 1 to 10.
HEAD = 10


def say(app: Flask, room: int, *texts: str, client_id: str | None = None) -> None:
    """Alice, whose id is 1, says this."""
    journal = Journal(app, publish=lambda _new: None)
    alice = Account(1, "alice")
    journal._write([Post(alice, room, text, lambda _answers: None, client_id) for text in texts])


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Shared]:
    """Ten messages in the lobby; a room without any; one that alice is not in."""
    app = create_app(settings(databases.fresh(request.param)))
    client = app.test_client(use_cookies=False)
    alice = sign_in(client, "alice")
    sign_in(client, "bob")
    with app.app_context(), transaction() as connection:
        for name, kind in (("quiet", "public"), ("hidden", "public"), (None, "private")):
            room = {"name": name, "kind": kind, "topic": "", "head": 0, "created_at": now()}
            connection.execute(insert(Room), room)
        for room_id, user_id in ((2, 1), (3, 2), (4, 1)):
            connection.execute(
                insert(Member),
                {"room_id": room_id, "user_id": user_id, "role": "member", "joined_at": now()},
            )
    say(app, LOBBY, "1", client_id="c1")
    say(app, LOBBY, *[str(number) for number in range(2, HEAD + 1)])
    say(app, 4, "private")
    yield Shared(app, client, alice)
    storage.close(app)


def page(shared: Shared, query: str = "", room: object = "lobby") -> dict[str, Any]:
    answer = shared.client.get(f"/rooms/{room}/messages?{query}", headers=shared.alice)
    assert answer.status_code == 200, answer.get_json()
    found: dict[str, Any] = answer.get_json()
    assert set(found) == {"messages", "has_before", "has_after", "head"}
    return found


def seqs(found: dict[str, Any]) -> list[int]:
    return [message["seq"] for message in found["messages"]]


def test_a_message_has_the_fields_of_the_contract(shared: Shared) -> None:
    first, second, *_ = page(shared)["messages"]
    created_at = first.pop("created_at")
    assert created_at.endswith("Z")
    assert datetime.fromisoformat(created_at) <= now()
    assert first == {
        "id": 1,
        "room": LOBBY,
        "seq": 1,
        "rev": 1,
        "user": {"id": 1, "username": "alice"},
        "kind": "text",
        "text": "1",
        "client_id": "c1",
    }
    assert "client_id" not in second


PAGES = {
    "": (range(1, 11), False, False),
    "limit=200": (range(1, 11), False, False),
    "limit=10": (range(1, 11), False, False),
    "limit=9": (range(2, 11), True, False),
    "limit=3": (range(8, 11), True, False),
    "limit=1": (range(10, 11), True, False),
    "before=11": (range(1, 11), False, False),
    "before=10": (range(1, 10), False, True),
    "before=8&limit=3": (range(5, 8), True, True),
    "before=4&limit=3": (range(1, 4), False, True),
    "before=2": (range(1, 2), False, True),
    "before=1": (range(0), False, True),
    "before=0": (range(0), False, True),
    "before=9223372036854775807&limit=2": (range(9, 11), True, False),
    "after=0": (range(1, 11), False, False),
    "after=0&limit=3": (range(1, 4), False, True),
    "after=3&limit=3": (range(4, 7), True, True),
    "after=7&limit=3": (range(8, 11), True, False),
    "after=9": (range(10, 11), True, False),
    "after=10": (range(0), True, False),
    "after=9223372036854775807": (range(0), True, False),
    "around=5&limit=4": (range(3, 7), True, True),
    "around=5&limit=3": (range(4, 7), True, True),
    "around=5&limit=1": (range(5, 6), True, True),
    "around=1&limit=4": (range(1, 3), False, True),
    "around=10&limit=4": (range(8, 11), True, False),
    "around=0": (range(1, 11), False, False),
    "around=9223372036854775807&limit=4": (range(9, 11), True, False),
}


@pytest.mark.parametrize("query", PAGES)
def test_a_page_is_ascending_and_says_what_is_before_and_after(shared: Shared, query: str) -> None:
    expected, before, after = PAGES[query]
    found = page(shared, query)
    assert seqs(found) == list(expected)
    assert [message["text"] for message in found["messages"]] == [str(seq) for seq in expected]
    assert (found["has_before"], found["has_after"]) == (before, after)
    assert found["head"] == HEAD


@pytest.mark.parametrize("size", [1, 3, 7, 10])
def test_pages_back_and_forth_show_each_message_once(shared: Shared, size: int) -> None:
    found = page(shared, f"limit={size}")
    back = seqs(found)
    while found["has_before"]:
        found = page(shared, f"limit={size}&before={back[0]}")
        back = seqs(found) + back
    forth: list[int] = []
    found = page(shared, f"limit={size}&after=0")
    forth += seqs(found)
    while found["has_after"]:
        found = page(shared, f"limit={size}&after={forth[-1]}")
        forth += seqs(found)
    assert back == forth == list(range(1, HEAD + 1))


def test_a_room_where_nothing_was_said_has_an_empty_page(shared: Shared) -> None:
    empty = {"messages": [], "has_before": False, "has_after": False, "head": 0}
    for query in ("", "before=5", "after=0", "limit=1"):
        assert page(shared, query, room="quiet") == empty


def test_the_newest_page_is_of_fifty_and_the_longest_of_two_hundred(shared: Shared) -> None:
    say(shared.app, 2, *[str(number) for number in range(250)])
    assert len(page(shared, room=2)["messages"]) == 50
    assert seqs(page(shared, "limit=200", room=2)) == list(range(51, 251))
    with shared.app.app_context(), transaction() as connection:
        connection.exec_driver_sql("DELETE FROM messages WHERE room_id = 2")
        connection.exec_driver_sql("UPDATE rooms SET head = 0 WHERE id = 2")


def test_a_room_is_known_by_its_id_and_if_public_by_its_name(shared: Shared) -> None:
    assert page(shared, room=LOBBY) == page(shared, room="lobby")
    assert [message["text"] for message in page(shared, room=4)["messages"]] == ["private"]


NOT_THERE = [
    "nothing",
    "LOBBY",
    "0",
    "99",
    "-1",
    "1.0",
    "+1",
    "%20lobby",
    "١",  # an Arabic one
    "²",
    "9223372036854775807",
    "9223372036854775808",
    "9" * 100,
    "hidden",
    "3",
    "None",
    "x" * 5000,
    "a%00b",
    "%ff",
    "%ed%a0%80",
    "'",
    "%25",
    "😀",
]


@pytest.mark.parametrize("room", NOT_THERE, ids=lambda room: ascii(room)[:24])
def test_a_room_that_is_not_there_looks_like_one_that_i_am_not_in(
    shared: Shared, room: str
) -> None:
    hidden = shared.client.get("/rooms/3/messages", headers=shared.alice)
    answer = shared.client.get(f"/rooms/{room}/messages", headers=shared.alice)
    problem(answer, 404, "not_found")
    assert answer.get_json()["title"] == hidden.get_json()["title"]


def test_the_two_look_alike_to_the_last_word(shared: Shared) -> None:
    bodies = {
        shared.client.get(f"/rooms/{room}/messages", headers=shared.alice).get_data()
        for room in ("3", "hidden", "99", "nothing")
    }
    assert len(bodies) == 1


def test_who_is_not_in_a_room_any_more_may_not_read_it(shared: Shared) -> None:
    assert page(shared, room=4)["head"] == 1
    with shared.app.app_context(), transaction() as connection:
        connection.execute(delete(Member).where(Member.room_id == 4))
    answer = shared.client.get("/rooms/4/messages", headers=shared.alice)
    problem(answer, 404, "not_found")
    with shared.app.app_context(), transaction() as connection:
        connection.execute(
            insert(Member), {"room_id": 4, "user_id": 1, "role": "member", "joined_at": now()}
        )


def test_a_stranger_may_not_read(shared: Shared) -> None:
    for room in ("lobby", "1", "nothing"):
        problem(shared.client.get(f"/rooms/{room}/messages"), 401, "not_authenticated")


BAD_QUERIES = {
    "limit=0": "limit",
    "limit=201": "limit",
    "limit=-1": "limit",
    "limit=x": "limit",
    "limit=": "limit",
    "limit=1.5": "limit",
    "limit=1e99": "limit",
    "limit=9223372036854775808": "limit",
    "before=-1": "before",
    "before=x": "before",
    "before=": "before",
    "before=9223372036854775808": "before",
    "after=-1": "after",
    "after=1%00": "after",
    "after=%ff": "after",
    "after=" + "9" * 1000: "after",
    "around=-1": "around",
    "Limit=5": "Limit",
    "limit[]=5": "limit[]",
    "=": "",
    "%00=1": "\x00",
}


@pytest.mark.parametrize("query", BAD_QUERIES, ids=lambda query: query[:30])
def test_a_bad_query_is_refused_and_says_which_part(shared: Shared, query: str) -> None:
    answer = shared.client.get(f"/rooms/lobby/messages?{query}", headers=shared.alice)
    body = problem(answer, 422, "validation")
    if BAD_QUERIES[query]:
        assert list(body["errors"]) == [BAD_QUERIES[query]]


@pytest.mark.parametrize("names", [{"before", "after"}, {"before", "around"}, {"after", "around"}])
def test_two_cursors_are_not_both_taken(shared: Shared, names: set[str]) -> None:
    query = "&".join(f"{name}=5" for name in names)
    answer = shared.client.get(f"/rooms/lobby/messages?{query}", headers=shared.alice)
    assert set(problem(answer, 422, "validation")["errors"]) == names


# Changes, and saying something: what is written is seen in live tests.


BAD_CHANGES = {
    "": "since",
    "since=": "since",
    "since=x": "since",
    "since=-1": "since",
    "since=9223372036854775808": "since",
    "since=0&limit=0": "limit",
    "since=0&limit=501": "limit",
    "since=0&before=1": "before",
}


@pytest.mark.parametrize("query", BAD_CHANGES)
def test_a_bad_question_for_changes_says_which_part(shared: Shared, query: str) -> None:
    answer = shared.client.get(f"/rooms/lobby/changes?{query}", headers=shared.alice)
    assert BAD_CHANGES[query] in problem(answer, 422, "validation")["errors"]


def test_changes_of_a_room_that_one_is_not_in_are_not_to_be_seen(shared: Shared) -> None:
    for room in ("hidden", "99"):
        answer = shared.client.get(f"/rooms/{room}/changes?since=0", headers=shared.alice)
        problem(answer, 404, "not_found")


def test_changes_are_pages_of_the_log_by_rev(shared: Shared) -> None:
    answer = shared.client.get("/rooms/lobby/changes?since=3&limit=4", headers=shared.alice)
    found = answer.get_json()
    assert [message["rev"] for message in found["messages"]] == [4, 5, 6, 7]
    assert (found["more"], found["head"]) == (True, HEAD)
    last = shared.client.get("/rooms/lobby/changes?since=9", headers=shared.alice).get_json()
    assert [message["rev"] for message in last["messages"]] == [10]
    assert (last["more"], last["head"]) == (False, HEAD)


BAD_MESSAGES: dict[str, tuple[object, str]] = {
    "no text": ({}, "text"),
    "blank": ({"text": " "}, "text"),
    "too long": ({"text": "я" * 4001}, "text"),
    "NUL": ({"text": "a\0b"}, "text"),
    "a number": ({"text": 1}, "text"),
    "a long client_id": ({"text": "hi", "client_id": "c" * 65}, "client_id"),
    "an empty client_id": ({"text": "hi", "client_id": ""}, "client_id"),
    "a reply to zero": ({"text": "hi", "reply_to": 0}, "reply_to"),
    "an unknown field": ({"text": "hi", "room": 1}, "room"),
}


@pytest.mark.parametrize(("body", "field"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_bad_message_is_refused_and_says_which_part(
    shared: Shared, body: object, field: str
) -> None:
    answer = shared.client.post("/rooms/lobby/messages", json=body, headers=shared.alice)
    assert field in problem(answer, 422, "validation")["errors"]


def test_nothing_is_said_in_a_room_that_one_is_not_in(shared: Shared) -> None:
    for room in ("hidden", "99", "3"):
        body = {"text": "hi"}
        answer = shared.client.post(f"/rooms/{room}/messages", json=body, headers=shared.alice)
        problem(answer, 404, "not_found")
