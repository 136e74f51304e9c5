"""People talk: the whole main job over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.live.conftest import StartServer, check_log
from tests.support.deployments import Deployment, Deployments
from tests.support.people import Person, Talk, unused_name
from tests.support.raw import TEXT, RawClient, encode
from tests.support.server import CLOSE, Server

pytestmark = pytest.mark.together


def test_hello_says_who_and_where_one_is(alice: Person) -> None:
    with alice.talk() as talk:
        hello = talk.hello
    assert hello["protocol"] == 1
    assert hello["user"] == {"id": alice.id, "username": alice.name}
    assert hello["online"] == [alice.id]
    assert hello["limits"] == {"text": 4000, "rate": 0}
    assert hello["heartbeat"] == 25
    assert isinstance(hello["session"], int)
    assert hello["worker"]
    (lobby,) = hello["rooms"]
    assert lobby["name"] == "lobby"
    assert lobby["kind"] == "public"
    assert lobby["members"] >= 1


def test_everybody_online_is_given_what_was_said(alice: Person, bob: Person) -> None:
    with alice.talk() as a, bob.talk() as b:
        head = a.hello["rooms"][0]["head"]
        ack = a.say("hello, bob", "c1")
        for talk in (a, b):
            message = talk.next("message")
            assert message["text"] == "hello, bob"
            assert message["user"] == {"id": alice.id, "username": alice.name}
            assert message["kind"] == "text"
            assert message["client_id"] == "c1"
            assert {k: message[k] for k in ("id", "room", "seq", "rev", "created_at")} == {
                k: ack[k] for k in ("id", "room", "seq", "rev", "created_at")
            }
        assert ack["seq"] == ack["rev"] == head + 1
        assert {alice.id, bob.id} <= set(b.hello["online"])  # and who has left just now


def test_the_ack_comes_before_the_message(alice: Person) -> None:
    with alice.talk() as talk:
        talk.send(type="send", room=1, text="in order", client_id="order")
        assert [talk.next()["type"], talk.next()["type"]] == ["ack", "message"]


def test_a_reply_says_what_it_answers(alice: Person, bob: Person) -> None:
    with alice.talk() as hers, bob.talk() as his:
        question = hers.say("why?")
        his.send(type="send", room=1, text="because", client_id="r1", reply_to=question["id"])
        assert his.next("ack")["client_id"] == "r1"
        while (answer := hers.next("message"))["text"] != "because":
            pass
        assert answer["reply_to"] == question["id"]
        assert {"type": "message", **alice.history()[-1]} == answer
        his.send(type="send", room=1, text="to nothing", client_id="r2", reply_to=2**62)
        refused = his.next("error")
        assert (refused["code"], refused["client_id"]) == ("validation", "r2")


def test_plain_text_is_a_message_for_the_lobby_as_typed(alice: Person, bob: Person) -> None:
    with alice.talk() as a, bob.talk() as b:
        a.socket.send("  hello, \u2603 <b>\n")
        message = b.next("message")
        assert message["text"] == "  hello, \u2603 <b>\n"
        assert "client_id" not in message
        assert "client_id" not in a.next("ack")


def test_a_client_id_sent_again_gets_the_first_ack_and_makes_no_second_message(
    alice: Person,
) -> None:
    with alice.talk() as talk:
        first = talk.say("once", "the-same")
        talk.next("message")
        assert talk.say("once", "the-same") == first
        talk.say("next", "another")
        assert talk.next("message")["text"] == "next"
    assert [m["text"] for m in alice.history()].count("once") == 1


def test_a_client_id_sent_twice_at_once_over_two_sockets_is_one_message(alice: Person) -> None:
    with alice.talk() as one, alice.talk() as two, ThreadPoolExecutor(2) as pool:
        for round_number in range(20):
            client_id = f"both-{round_number}"
            acks = list(pool.map(lambda talk, c=client_id: talk.say("both", c), (one, two)))
            assert acks[0] == acks[1]
    history = alice.history()
    ids = [m["client_id"] for m in history if m["text"] == "both"]
    assert len(ids) == len(set(ids)) == 20


def test_two_people_may_use_the_same_client_id(alice: Person, bob: Person) -> None:
    with alice.talk() as a, bob.talk() as b:
        assert a.say("mine", "c-shared")["id"] != b.say("mine too", "c-shared")["id"]


def test_every_reader_gets_every_rev_in_order_without_a_gap(server: Server) -> None:
    people = [Person(server, "writer") for _ in range(8)]
    talks = [person.talk() for person in people]
    first = talks[-1].hello["rooms"][0]["head"] + 1
    with ThreadPoolExecutor(8) as pool:

        def write(talk: Talk) -> None:
            for number in range(25):
                talk.send(type="send", room=1, text=str(number), client_id=unused_name("w"))

        list(pool.map(write, talks))
        for talk in talks:
            got = [talk.next("message") for _ in range(200)]
            assert [m["rev"] for m in got] == list(range(first, first + 200))
            for person in people:
                numbers = [m["text"] for m in got if m["user"]["id"] == person.id]
                assert numbers == [str(n) for n in range(25)], "a writer's order is kept"
    for talk in talks:
        talk.close()


def test_history_pages_through_all_that_was_said(alice: Person) -> None:
    with alice.talk() as talk:
        said = [talk.say(f"page {number}")["seq"] for number in range(7)]
    page = alice.get(f"/rooms/lobby/messages?limit=3&after={said[0] - 1}").json()
    assert [m["seq"] for m in page["messages"]] == said[:3]
    assert page["has_after"] is True
    page = alice.get(f"/rooms/lobby/messages?limit=3&before={said[-1] + 1}").json()
    assert [m["seq"] for m in page["messages"]] == said[-3:]
    assert page["has_before"] is True
    assert page["has_after"] is False
    assert page["head"] == said[-1]


@pytest.mark.parametrize("by", ["header", "lower case", "query", "cookie"])
def test_a_token_is_taken_from_header_query_or_cookie(alice: Person, by: str) -> None:
    headers, query = {}, ""
    if by == "header":
        headers = {"Authorization": f"Bearer {alice.token}"}
    elif by == "lower case":
        headers = {"Authorization": f"bearer {alice.token}"}
    elif by == "query":
        query = f"?token={alice.token}"
    else:
        headers = {"Cookie": f"bytechat_session={alice.token}"}
    with Talk(connect(alice.server.ws_url + query, additional_headers=headers)) as talk:
        assert talk.hello["user"]["id"] == alice.id


def test_logging_out_closes_the_sockets_of_that_token_only(alice: Person) -> None:
    other_token = alice.sign_in()
    other = Talk(connect(f"{alice.server.ws_url}?token={other_token}"))
    with alice.talk() as one, alice.talk() as two, other:
        assert alice.post("/logout").json() == {"revoked": 1}
        assert one.closed(1) == 4401
        assert two.closed(1) == 4401
        assert other.alive()
    with pytest.raises(InvalidStatus, match="401"):
        alice.talk()


@pytest.mark.any_database
def test_a_socket_is_closed_when_its_token_expires(start_server: StartServer) -> None:
    server = start_server(TOKEN_HOURS=str(3 / 3600))
    alice = Person(server)
    with alice.talk() as talk:
        assert talk.closed(5) == 4401
    answer = requests.get(f"{server.url}/profile", headers=alice.headers, timeout=5)
    assert answer.json()["code"] == "token_expired"


@pytest.fixture(scope="module")
def open_server(deployment: Deployment, deployments: Deployments) -> Iterator[Server]:
    """Shared like ``server``; it lets guests in."""
    with deployments.start(deployment, GUESTS="1") as running:
        yield running
        check_log(running)


def test_guests_may_talk_in_the_lobby_when_they_are_let_in(open_server: Server) -> None:
    alice = Person(open_server)
    with alice.talk() as a, Talk(connect(open_server.ws_url)) as guest:
        user = guest.hello["user"]
        assert user["username"].startswith("guest-")
        assert guest.hello["session"] == 0
        assert [room["name"] for room in guest.hello["rooms"]] == ["lobby"]
        guest.socket.send("hi from nobody")
        assert a.next("message")["user"] == user
        guest.next("ack")
        guest.say("c1 of one guest", "c1")
        with Talk(connect(open_server.ws_url)) as second:
            assert second.hello["user"] != user
            second.say("c1 of another", "c1")
    history = alice.history("limit=3")
    assert [m["text"] for m in history] == ["hi from nobody", "c1 of one guest", "c1 of another"]
    assert history[0]["user"] == user
    with pytest.raises(InvalidStatus, match="401"):
        connect(f"{open_server.ws_url}?token=nonsense")


def test_without_a_token_there_is_no_socket(server: Server) -> None:
    with pytest.raises(InvalidStatus, match="401") as refused:
        connect(server.ws_url)
    response = refused.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.body is not None
    assert json.loads(response.body)["code"] == "not_authenticated"


def test_the_page_and_health_are_served_beside_the_sockets(server: Server) -> None:
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz"):
        assert requests.get(server.url + path, headers=CLOSE, timeout=10).status_code == 200


def test_guests_who_say_something_and_leave_at_once_are_heard(open_server: Server) -> None:
    """Many at a time: the end of one's post must not be taken for that of another's."""
    alice = Person(open_server)
    words = [f"last word {number}" for number in range(60)]

    def drop_in(word: str) -> None:
        guest = RawClient(open_server)
        guest.next(TEXT)
        guest.sock.sendall(encode(TEXT, word.encode()))
        guest.sock.close()

    with alice.talk() as talk:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(drop_in, words))
        got = [talk.next("message") for _ in words]
    assert sorted(m["text"] for m in got) == sorted(words)
    assert len({m["user"]["id"] for m in got}) == len(words)
    check_log(open_server)


def test_the_id_of_a_guest_who_has_left_is_not_given_again(open_server: Server) -> None:
    ids = []
    for _ in range(3):
        with Talk(connect(open_server.ws_url)) as guest:
            ids.append(guest.hello["user"]["id"])
    assert len(set(ids)) == 3
    assert Person(open_server).id not in ids
