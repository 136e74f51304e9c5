"""Resuming: what a client missed is the room's log after its rev, by socket and by HTTP."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.live.conftest import StartServer
from tests.support.people import Frame, Person, Talk, unused_name
from tests.support.raw import TEXT, RawClient
from tests.support.server import Server

pytestmark = pytest.mark.together


def say_many(person: Person, count: int) -> None:
    """Say lines without waiting for each ack."""
    with person.talk() as talk:
        for number in range(count):
            talk.send(type="send", room=1, text=f"line {number}", client_id=unused_name("m"))
        for _ in range(count):
            assert talk.next("ack", "error")["type"] == "ack"


def sync(talk: Talk, since: int) -> Frame:
    talk.send(type="sync", room="lobby", since=since)
    return talk.next("sync", "reset", "error")


def test_a_sync_gives_what_came_after_a_rev_and_pages_through_it(server: Server) -> None:
    alice = Person(server)
    with alice.talk() as talk:
        start = talk.hello["rooms"][0]["head"]
    say_many(alice, 700)
    revs: list[int] = []
    with alice.talk() as talk:
        since = start
        while True:
            page = sync(talk, since)
            assert set(page) == {"type", "room", "messages", "head", "more"}
            assert (page["type"], page["room"], page["head"]) == ("sync", 1, start + 700)
            revs += [message["rev"] for message in page["messages"]]
            since = revs[-1]
            if not page["more"]:
                break
        assert sync(talk, since) == {
            "type": "sync", "messages": [], "head": since, "more": False, "room": 1,
        }  # fmt: skip
        assert revs == list(range(start + 1, start + 701))
        assert sync(talk, since - 1)["messages"] == alice.history("limit=1")


def test_over_1000_changes_behind_or_ahead_of_the_log_is_a_reset(server: Server) -> None:
    alice = Person(server)
    say_many(alice, 1001)
    head = alice.history("limit=1")[0]["rev"]
    with alice.talk() as talk:
        assert sync(talk, head - 1000)["type"] == "sync"
        assert sync(talk, head - 1001) == {"type": "reset", "room": 1, "head": head}
        assert sync(talk, head + 1) == {"type": "reset", "room": 1, "head": head}


def test_a_sync_of_a_room_that_one_is_not_in_is_refused(alice: Person) -> None:
    with alice.talk() as talk:
        for room in (99, "attic"):
            talk.send(type="sync", room=room, since=0)
            assert talk.next("sync", "reset", "error")["code"] == "not_found"
        talk.send(type="sync", room=1)
        assert talk.next("error")["code"] == "validation"
        talk.send(type="sync", room=1, since=-1)
        assert talk.next("error")["code"] == "validation"


def test_a_sync_while_messages_pour_in_leaves_no_gap_and_the_pushes_stay_in_order(
    server: Server,
) -> None:
    alice, bob = Person(server), Person(server, "bob")
    say_many(alice, 100)
    writer = threading.Thread(target=say_many, args=(alice, 600))
    with bob.talk() as talk:
        head = talk.hello["rooms"][0]["head"]
        since = head - 100
        writer.start()
        talk.next("message")  # it pours
        pushed = [head + 1]
        talk.send(type="sync", room=1, since=since)
        synced: list[int] = []
        more = True
        while more or pushed[-1] < head + 600:
            frame = talk.next("sync", "message", "reset")
            assert frame["type"] != "reset"
            if frame["type"] == "message":
                pushed.append(frame["rev"])
                continue
            synced += [message["rev"] for message in frame["messages"]]
            if more := frame["more"]:
                talk.send(type="sync", room=1, since=synced[-1])
    writer.join()
    assert synced == list(range(since + 1, synced[-1] + 1))
    assert pushed == list(range(head + 1, head + 601))
    assert synced[-1] > head, "what hello named is there, and what came before the answer"


def test_many_syncs_at_once_of_long_texts_do_not_overflow_a_client_that_reads(
    alice: Person,
) -> None:
    """Forty pages of 300 KiB would not fit its outbox: each waits until the last one is taken."""
    with alice.talk() as talk:
        revs = [talk.say("я" * 3990 + str(number))["rev"] for number in range(30)]
    with alice.talk() as talk:
        for _ in range(40):
            talk.send(type="sync", room=1, since=revs[0] - 1)
        pages = [talk.next("sync") for _ in range(40)]
        for page in pages:
            assert page["more"] is True, "cut short, as its texts are long"
            assert [message["rev"] for message in page["messages"]] == revs[:25]
        rest = sync(talk, revs[24])
        assert [message["rev"] for message in rest["messages"]] == revs[25:]
        assert rest["more"] is False
        assert talk.alive()


def test_a_socket_that_dies_while_a_sync_waits_for_it_is_let_go(start_server: StartServer) -> None:
    server = start_server(PING_EVERY="1")
    alice, bob = Person(server), Person(server, "bob")
    with alice.talk() as talk:
        for number in range(30):
            talk.say("я" * 3990 + str(number))
    stalled = RawClient(server, bob.token)  # it reads nothing
    for _ in range(200):  # over what the kernel's buffers take
        stalled.send(TEXT, b'{"type":"sync","room":1,"since":0}')
    deadline = time.monotonic() + 30
    while "user=" + bob.name not in closed_lines(server) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "user=" + bob.name in closed_lines(server)
    with alice.talk() as talk:
        assert talk.alive()
    stalled.sock.close()


def closed_lines(server: Server) -> str:
    return "\n".join(line for line in server.lines().splitlines() if "socket closed" in line)


# Over HTTP.


def test_what_is_posted_over_http_is_pushed_and_is_one_message_however_often(
    server: Server,
) -> None:
    alice, bob = Person(server), Person(server, "bob")
    path = "/rooms/lobby/messages"
    with bob.talk() as talk:
        first = alice.post(path, {"text": "over http", "client_id": "h1"})
        assert first.status_code == 201, first.text
        message = first.json()
        assert (message["text"], message["client_id"]) == ("over http", "h1")
        assert message["user"] == {"id": alice.id, "username": alice.name}
        assert talk.next("message") == {"type": "message", **message}
        again = alice.post(path, {"text": "other words", "client_id": "h1"})
        assert (again.status_code, again.json()) == (200, message)
        with alice.talk() as hers:
            ack = hers.say("a third time", "h1")
            assert (ack["id"], ack["seq"]) == (message["id"], message["seq"])
        reply = alice.post("/rooms/1/messages", {"text": "no name", "reply_to": message["id"]})
        assert reply.status_code == 201
        assert reply.json()["reply_to"] == message["id"]
        assert talk.next("message") == {"type": "message", **reply.json()}


def test_posts_over_http_and_socket_at_once_are_one_message(alice: Person) -> None:
    client_id = unused_name("both")
    ids: list[int] = []

    def post() -> None:
        answer = alice.post("/rooms/lobby/messages", {"text": "at once", "client_id": client_id})
        ids.append(answer.json()["id"])

    with alice.talk() as talk:
        threads = [threading.Thread(target=post) for _ in range(6)]
        for thread in threads:
            thread.start()
        ids.append(talk.say("at once", client_id)["id"])
        for thread in threads:
            thread.join()
    assert len(ids) == 7
    assert len(set(ids)) == 1
    assert [m["id"] for m in alice.history() if m.get("client_id") == client_id] == ids[:1]


def test_changes_over_http_are_the_log_after_a_rev(alice: Person) -> None:
    say_many(alice, 30)
    newest = alice.history("limit=30")
    since, revs = newest[0]["rev"] - 1, []
    while True:
        answer = alice.get(f"/rooms/lobby/changes?since={since}&limit=7")
        page = json.loads(answer.text)
        assert set(page) == {"messages", "head", "more"}
        revs += [message["rev"] for message in page["messages"]]
        if not page["more"]:
            break
        assert len(page["messages"]) == 7
        since = revs[-1]
    assert revs == [message["rev"] for message in newest]
    assert page["head"] == revs[-1]
    past = alice.get(f"/rooms/lobby/changes?since={2**62}").json()
    assert past == {"messages": [], "head": revs[-1], "more": False}
