"""Several workers on one port: each has its share, and none takes what waits for it along."""

from __future__ import annotations

import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import requests
from gunicorn.config import Config
from gunicorn.workers.ggevent import GeventWorker

from bytechat.serving import Worker
from tests.support.databases import SECRET, Databases
from tests.support.people import Person
from tests.support.raw import TEXT, RawClient
from tests.support.server import CLOSE, Server

from .test_server import gunicorn


@pytest.fixture(params=["4"])
def pair(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    url = databases.fresh("postgresql")
    command = "gunicorn -c tests/live/slow_start.py"
    with Server(
        url, command, WEB_CONCURRENCY="2", DATABASE_POOL="5", START_SECONDS=request.param
    ) as running:
        deadline = time.monotonic() + 20
        while running.lines().count("PUT /nowhere") < 10:  # both are there, most likely
            assert time.monotonic() < deadline
            requests.put(f"{running.url}/nowhere", headers=CLOSE, timeout=20)
        yield running


def health(pair: Server, seconds: float = 20) -> requests.Response:
    """Over a new connection. Raises if that is refused or reset."""
    return requests.get(f"{pair.url}/healthz", headers=CLOSE, timeout=seconds)


@pytest.mark.parametrize("at_once", [1, 50])
def test_no_worker_has_much_more_than_its_share_of_sockets(pair: Server, at_once: int) -> None:
    alice = Person(pair)
    with ExitStack() as stack, ThreadPoolExecutor(at_once) as pool:
        clients = list(pool.map(lambda _: RawClient(pair, alice.token), range(200)))
        for client in clients:
            stack.callback(client.sock.close)
        hellos = [client.next(TEXT).payload for client in clients]
        workers = Counter(hello.partition(b'"worker":"')[2][:8] for hello in hellos)
    assert len(workers) == 2
    assert max(workers.values()) < 1.6 * 100


@pytest.mark.parametrize("pair", ["10"], indirect=True)
def test_a_hup_fails_no_request_and_serves_without_a_pause(pair: Server) -> None:
    alice = Person(pair)
    old = {worker.pid for worker in pair.workers}
    over = Event()
    answered: list[tuple[float, float]] = []  # from when to when, in seconds since the HUP

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic() - hung_up
            assert health(pair).status_code == 200
            answered.append((began, time.monotonic() - hung_up))

    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        talks = [stack.enter_context(alice.talk()) for _ in range(20)]
        hung_up = time.monotonic()
        psutil.Process(pair.pid).send_signal(signal.SIGHUP)
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            assert {talk.closed(30) for talk in talks} == {1012}
            deadline = time.monotonic() + 30
            while old & {worker.pid for worker in pair.workers}:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            time.sleep(0.5)  # the new ones alone
        finally:
            over.set()
        for asked in asking:
            asked.result()
    # Had the old ones gone at once, nobody would have been there before the new ones.
    assert [(began, ended) for began, ended in answered if began > 3 and ended < 10]


@pytest.mark.parametrize("pair", ["0"], indirect=True)
def test_a_slow_request_is_answered_by_a_worker_that_was_replaced_meanwhile(pair: Server) -> None:
    head = (
        b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{"
    )
    with ExitStack() as stack, Person(pair).talk() as talk:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", pair.port), 30))
            for _ in range(2)
        ]
        for client in slow:
            client.sendall(head)
        time.sleep(0.5)  # until they are being served
        psutil.Process(pair.pid).send_signal(signal.SIGHUP)
        assert talk.closed(30) == 1012
        for client in slow:  # 10 s after it came; a stop would have cut it off before
            assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("pair", ["12"], indirect=True)
def test_a_stop_in_the_middle_of_a_hup_is_soon_over(pair: Server) -> None:
    psutil.Process(pair.pid).send_signal(signal.SIGHUP)
    time.sleep(1)  # the new ones are starting, and it takes them long
    assert pair.terminate() < 10  # and not 20 more, for which gunicorn waits in a reload


@pytest.mark.parametrize("pair", ["10"], indirect=True)
def test_while_the_next_of_a_dead_worker_loads_the_others_serve_all(pair: Server) -> None:
    """And when it is there, it has its share again."""
    alice = Person(pair)
    dead, living = pair.workers
    dead.kill()
    deadline = time.monotonic() + 30
    while len(pair.workers) == 1 or dead in pair.workers:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(40):
        assert health(pair, seconds=5).ok, "half of them wait for the one that loads"
    assert len(set(workers_of(pair, alice))) == 1, "it has loaded already"
    while len(set(workers_of(pair, alice))) == 1:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert living in pair.workers


@pytest.mark.parametrize("pair", ["6"], indirect=True)
def test_a_server_outlives_workers_that_die_while_they_load_and_in_the_end_all(
    pair: Server,
) -> None:
    pair.workers[0].kill()
    killed = set()
    for _ in range(3):
        time.sleep(0.5)
        youngest = max(pair.workers, key=lambda worker: worker.create_time())
        youngest.kill()
        killed.add(youngest.pid)
        assert health(pair, seconds=5).ok
    assert len(killed) == 3
    for worker in pair.workers:
        worker.kill()
    time.sleep(0.5)
    assert health(pair).ok, "there is nobody else: it waits"


def test_what_waits_at_a_worker_that_stops_is_served_by_the_next(pair: Server) -> None:
    pair.workers[0].terminate()
    slowest, began = 0.0, time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        while time.monotonic() < began + 7:
            asked = time.monotonic()
            assert {answer.status_code for answer in pool.map(health, [pair] * 10)} == {200}
            slowest = max(slowest, time.monotonic() - asked)
    assert slowest > 2, "some have waited for it"


def workers_of(server: Server, person: Person) -> list[str]:
    """The workers that some new sockets come to."""
    names = []
    for _ in range(10):
        with person.at(server).talk() as talk:
            names.append(talk.hello["worker"])
    return names


def test_a_second_server_on_the_port_is_refused_and_the_first_serves_on(pair: Server) -> None:
    ended = gunicorn(
        DATABASE_URL=pair.database_url,
        JWT_SECRET_KEY=SECRET,
        HOST="127.0.0.1",
        PORT=str(pair.port),
        WEB_CONCURRENCY="2",
        DATABASE_POOL="5",
    )
    assert ended.returncode != 0
    assert f"Connection in use: ('127.0.0.1', {pair.port})" in ended.stderr
    assert "Booting worker" not in ended.stderr
    assert {health(pair).status_code for _ in range(20)} == {200}


@pytest.mark.parametrize("pair", ["0"], indirect=True)
def test_a_restart_has_the_port_again_while_clients_still_have_connections(pair: Server) -> None:
    with Person(pair).talk(), Person(pair, "bob").talk():
        pair.terminate()
        pair.start()
    assert "Connection in use" not in pair.lines()


def test_the_number_of_workers_stays_as_each_has_a_listener(pair: Server) -> None:
    psutil.Process(pair.pid).send_signal(signal.SIGTTOU)
    psutil.Process(pair.pid).send_signal(signal.SIGTTIN)
    time.sleep(1.5)
    assert len(pair.workers) == 2
    assert "set WEB_CONCURRENCY, and restart" in pair.lines()
    assert {health(pair).status_code for _ in range(20)} == {200}


def test_a_connection_that_was_accepted_before_its_listener_was_closed_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named: list[Any] = []

    def run(worker: Any) -> None:
        (listener,) = worker.sockets
        listener.close()
        worker.handle(listener, None, None)

    monkeypatch.setattr(GeventWorker, "run", run)
    monkeypatch.setattr(
        GeventWorker, "handle", lambda _, listener, *_rest: named.append(listener.getsockname())
    )
    listener = _Listener()
    worker = Worker(1, 1, [listener], SimpleNamespace(), 1, Config(), None)
    worker.run()
    worker.tmp.close()
    assert named == [("127.0.0.1", 1)]


class _Listener:
    """As gunicorn asks for its name, which a closed one does not say."""

    closed = False

    def getsockname(self) -> tuple[str, int]:
        if self.closed:
            raise OSError("Bad file descriptor")
        return "127.0.0.1", 1

    def listen(self, backlog: int) -> None:
        """It does already."""

    def close(self) -> None:
        self.closed = True
