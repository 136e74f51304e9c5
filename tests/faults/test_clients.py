"""Clients are cut off, repeat themselves, or sleep: they resume, and the others see nothing."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import msgspec

from bytechat.client import Ack, Client, Hello, Message
from bytechat.client.shapes import decode
from tests.support.ledger import Ledger
from tests.support.people import Person, unused_name
from tests.support.proxy import Proxy
from tests.support.raw import CLOSE, TEXT, RawClient

from .conftest import Scene
from .crowd import LOBBY, SECONDS, wait_until

#: Bytes of a direction of a connection before it is cut: from within its first frame to hundreds
#: of frames.
SHORTEST_LIFE, LONGEST_LIFE = 150, 30_000

#: Bytes that may wait for a socket; and the same with the kernel's buffers of both sides, about.
OUTBOX, BUFFERS = 262_144, 7_000_000


def test_clients_that_are_cut_off_anywhere_lose_and_double_nothing(scene: Scene, url: str) -> None:
    server = scene.serve(url)

    def short_life() -> int:
        # As often short as long, by their order of magnitude.
        return int(SHORTEST_LIFE * (LONGEST_LIFE / SHORTEST_LIFE) ** scene.dice.random())

    with (
        Proxy(server.port) as proxy,
        scene.crowd(scene.people(server), url=f"http://127.0.0.1:{proxy.port}", rate=50) as crowd,
    ):
        for _ in range(scene.size.rounds):
            before = proxy.cuts
            proxy.life = short_life
            proxy.cut()
            assert wait_until(lambda: proxy.cuts >= before + 10 * scene.size.people)  # noqa: B023
            # Then who fell behind gets a page of a sync, which may be longer than those lives.
            proxy.life = lambda: None
            proxy.cut()
            crowd.hear(5)
        crowd.finish()
    scene.ledger.check(url)


def test_what_is_sent_many_times_at_once_is_there_once(scene: Scene, url: str) -> None:
    """Over two sockets, twice over each, and twice over HTTP; with PostgreSQL to two workers."""
    server = scene.serve(url)
    people = scene.people(server)
    alice = people[0]
    client_ids = [unused_name("twice") for _ in range(20 * scene.size.rounds)]
    together = Barrier(4)

    def over_a_socket() -> None:
        with alice.talk() as talk:
            for client_id in client_ids:
                frame = {"room": "lobby", "text": f"once: {client_id}", "client_id": client_id}
                together.wait(SECONDS)
                for _ in range(2):
                    talk.send(type="send", **frame)
                for _ in range(2):
                    answer = talk.next("ack", "error")
                    scene.ledger.acked(alice.id, msgspec.convert(answer, Ack))

    def over_http() -> None:
        for client_id in client_ids:
            together.wait(SECONDS)
            body = {"text": f"once: {client_id}", "client_id": client_id}
            answer = alice.post("/rooms/lobby/messages", body)
            scene.ledger.acked(alice.id, msgspec.convert(answer.json(), Ack))

    for client_id in client_ids:
        scene.ledger.sent(alice.id, client_id, f"once: {client_id}")
    with scene.crowd(people) as crowd, ThreadPoolExecutor(4) as pool:
        tasks = [over_a_socket, over_a_socket, over_http, over_http]
        for done in [pool.submit(task) for task in tasks]:
            done.result()
        crowd.finish()
    scene.ledger.check(url)


class Sleeper:
    """Somebody who has a socket and does not read it."""

    def __init__(self, person: Person, ledger: Ledger) -> None:
        self.person = person
        self._ledger = ledger
        self._raw = RawClient(person.server, person.token)
        hello = decode(self._raw.next(TEXT).payload)
        assert isinstance(hello, Hello)
        ledger.begins(person.name, LOBBY, hello.rooms[0].head)

    def wake_up(self) -> int:
        """Read what there is, up to the close frame; the last rev."""
        with closing(self._raw.sock):
            while (frame := self._raw.next(TEXT, CLOSE)).opcode == TEXT:
                message = decode(frame.payload)
                assert isinstance(message, Message)
                self._ledger.heard(self.person.name, message)
                last = message.rev
        assert struct.unpack("!H", frame.payload[:2]) == (4408,)
        return last


def test_who_does_not_read_is_sent_away_and_resumes_and_the_others_see_nothing_of_it(
    scene: Scene, url: str
) -> None:
    server = scene.serve(url, OUTBOX_MAX=str(OUTBOX))
    people = scene.people(server)
    with scene.crowd(people, rate=30) as crowd:
        for _ in range(scene.size.rounds):
            sleeping = scene.people(server, "sleeper")
            sleepers = [Sleeper(person, scene.ledger) for person in sleeping]
            declaim(people[0], scene.ledger)
            for sleeper in sleepers:
                crowd.join(sleeper.person, sleeper.wake_up())
            crowd.hear(5)
        crowd.finish()
    scene.ledger.check(url)
    sent_away = [line for line in server.lines().splitlines() if "code=4408" in line]
    assert len(sent_away) == scene.size.rounds * scene.size.people
    assert all("user=sleeper" in line for line in sent_away)


def declaim(person: Person, ledger: Ledger) -> None:
    """Say more than fits in the outbox of one who sleeps, and in the kernel's buffers before it."""
    text = "\u2603" * 4000  # three bytes each
    window = OUTBOX // len(text.encode()) // 4  # a burst must not be too much for the others
    with Client(person.server.url, person.token, window=window) as client:
        said = []
        for _ in range(BUFFERS // len(text.encode())):
            client_id = unused_name("long")
            ledger.sent(person.id, client_id, text)
            said.append(client.send("lobby", text, client_id=client_id))
        for sent in said:
            ledger.acked(person.id, sent.result(SECONDS))
