"""Clients are cut off, repeat themselves, or sleep: they resume, and the others see nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from bytechat.client import Ack, Client, Hello, Message
from bytechat.client.shapes import decode
from tests.support.ledger import Ledger
from tests.support.people import Person, unused_name
from tests.support.proxy import Proxy

from .conftest import Scene
from .crowd import LOBBY, SECONDS, wait_until

#: Bytes of a direction of a connection before it is cut: from within its first frame to hundreds
#: of frames.
SHORTEST_LIFE, LONGEST_LIFE = 150, 30_000

#: Bytes that may wait for a socket; and the same with the kernel's buffers of both sides, about.
OUTBOX, BUFFERS = 1_000_000, 8_000_000

#: Those who do not read, at a time.
SLEEPERS = 2


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

    def __init__(self, person: Person, socket: ClientConnection, ledger: Ledger) -> None:
        self.person = person
        self._socket = socket
        self._ledger = ledger
        hello = decode(self._socket.recv(SECONDS, decode=False))
        assert isinstance(hello, Hello)
        self._position = hello.rooms[0].head
        ledger.begins(person.name, LOBBY, self._position)

    def wake_up(self) -> None:
        """Read what there is, up to the end of the socket, and then resume."""
        with pytest.raises(ConnectionClosed) as closed:
            self._read()
        # The server waits some seconds for whoever is too slow, and then cuts them off.
        assert closed.value.rcvd is None or closed.value.rcvd.code == 4408
        head = self.person.history("limit=1")[-1]["rev"]
        since = {LOBBY: self._position}
        with Client(self.person.server.url, self.person.token, since=since) as client:
            while self._position < head:
                self._hear(client.receive(SECONDS))
        self._ledger.leaves(self.person.name, LOBBY)

    def _read(self) -> None:
        while True:
            self._hear(decode(self._socket.recv(SECONDS, decode=False)))

    def _hear(self, message: object) -> None:
        if isinstance(message, Message):
            self._ledger.heard(self.person.name, message)
            self._position = message.rev


def test_who_does_not_read_is_sent_away_and_resumes_unseen_by_the_others(
    scene: Scene, url: str
) -> None:
    server = scene.serve(url, OUTBOX_MAX=str(OUTBOX))
    people = scene.people(server)
    with scene.crowd(people, rate=30) as crowd:
        for _ in range(scene.size.rounds):
            with ExitStack() as stack:
                sleeping = [Person(server, "sleeper") for _ in range(SLEEPERS)]
                sleepers = [
                    Sleeper(person, stack.enter_context(unread(person)), scene.ledger)
                    for person in sleeping
                ]
                declaim(people[0], scene.ledger)
                for sleeper in sleepers:
                    sleeper.wake_up()
            crowd.hear(5)
        crowd.finish()
    scene.ledger.check(url)
    slow = [line for line in server.lines().splitlines() if "code=4408" in line]
    assert len(slow) == scene.size.rounds * SLEEPERS
    assert all("user=sleeper" in line for line in slow)


def unread(person: Person) -> ClientConnection:
    """A socket that reads no more than a few frames ahead of its program."""
    return connect(
        person.server.ws_url,
        additional_headers=person.headers,
        compression=None,
        max_queue=1,
        ping_interval=None,
    )


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
