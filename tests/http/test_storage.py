"""The database: what is set on every connection, who waits for whom, and what an outage becomes."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.test import TestResponse

from bytechat import create_app, storage
from bytechat.errors import Unavailable, from_database
from bytechat.extensions import db
from bytechat.models import User, now
from bytechat.storage import transaction

from ..conftest import sign_in
from ..support.databases import Databases, settings
from .outage import cut_connections
from .problems import problem

SECONDS = 5.0
ALICE = {"username": "alice", "password": "123456"}


def running(databases: Databases, kind: str, **changed: object) -> Iterator[Flask]:
    app = create_app(settings(databases.fresh(kind), **changed))
    app.testing = True
    with app.app_context():
        yield app
    storage.close(app)


@pytest.fixture
def sqlite(databases: Databases) -> Iterator[Flask]:
    yield from running(databases, "sqlite")


@pytest.fixture
def postgresql(databases: Databases) -> Iterator[Flask]:
    yield from running(databases, "postgresql", database_timeout=1, database_pool=2)


def ask(question: str) -> Any:
    with transaction() as connection:
        return connection.scalars(text(question)).one()


def file_of(app: Flask) -> Path:
    with app.app_context():
        assert db.engine.url.database
        return Path(db.engine.url.database)


def add_user(username: str, created_at: datetime | None = None) -> None:
    with transaction() as connection:
        connection.execute(
            insert(User),
            {
                "username": username,
                "display_name": username,
                "created_at": created_at or now(),
            },
        )


def usernames() -> list[str]:
    with transaction() as connection:
        return list(connection.scalars(select(User.username).order_by(User.id)))


# Both.


def test_a_transaction_that_raises_has_changed_nothing_and_frees_its_connection(
    app: Flask,
) -> None:
    def write_and_fail() -> None:
        with transaction() as connection:
            connection.execute(
                insert(User), {"username": "x", "display_name": "x", "created_at": now()}
            )
            raise ValueError("no")

    with app.app_context():
        for _ in range(20):  # more than there are connections
            with pytest.raises(ValueError, match="no"):
                write_and_fail()
        assert usernames() == []


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/St_Johns"])
def test_moments_are_in_utc_wherever_the_server_stands(
    app: Flask, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=45)))
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        with app.app_context():
            add_user("alice", moment)
            add_user("bob", elsewhere)
            with transaction() as connection:
                read = list(connection.scalars(select(User.created_at)))
                later = connection.scalars(
                    select(User.username).where(User.created_at > moment - timedelta(seconds=1))
                ).all()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert read == [moment, moment]
    assert [found.tzinfo for found in read] == [UTC, UTC]
    assert len(later) == 2


def test_the_end_of_the_application_closes_its_connections(app: Flask) -> None:
    with app.app_context():
        assert usernames() == []
        pool = db.engine.pool
        storage.close(app)
        assert db.engine.pool is not pool
        assert usernames() == [], "and it may be used again"


# SQLite.


@pytest.mark.usefixtures("sqlite")
def test_sqlite_keeps_what_it_has_acked_and_checks_its_keys() -> None:
    for _ in range(2):
        assert ask("PRAGMA journal_mode") == "wal"
        assert ask("PRAGMA synchronous") == 2  # FULL: an ack means that the disk has it
        assert ask("PRAGMA foreign_keys") == 1
        db.engine.dispose()  # the next connection is a new one


def test_a_sqlite_transaction_has_the_write_lock_from_its_beginning(sqlite: Flask) -> None:
    other = sqlite3.connect(file_of(sqlite), timeout=0, isolation_level=None)
    with transaction() as connection:
        connection.execute(text("SELECT 1"))  # a transaction that only reads, until now
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        assert other.execute("SELECT count(*) FROM rooms").fetchone() == (1,)  # reading is free
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_second_sqlite_transaction_waits_for_the_first(sqlite: Flask) -> None:
    happened: list[str] = []
    inside, waiting = threading.Event(), threading.Event()

    def second() -> None:
        assert inside.wait(SECONDS)
        waiting.set()
        with sqlite.app_context():
            add_user("second")
        happened.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with transaction() as connection:
        inside.set()
        assert waiting.wait(SECONDS)
        thread.join(0.1)
        assert thread.is_alive(), "it did not wait"
        connection.execute(
            insert(User), {"username": "first", "display_name": "x", "created_at": now()}
        )
        happened.append("first")
    thread.join(SECONDS)
    assert happened == ["first", "second"]
    assert usernames() == ["first", "second"]


def test_many_who_write_to_sqlite_at_once_all_succeed(sqlite: Flask) -> None:
    def write(number: int) -> None:
        with sqlite.app_context():
            for part in range(10):
                add_user(f"{number}-{part}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(usernames()) == 80


def test_who_waits_too_long_for_sqlites_one_connection_is_told_to_come_again(
    sqlite: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sqlite.test_client()
    alice = sign_in(client, "alice")
    monkeypatch.setattr(db.engine.pool, "_timeout", 0.05)
    with transaction():
        began = time.monotonic()
        answer = client.get("/profile", headers=alice)
        waited = time.monotonic() - began
    problem(answer, 503, "unavailable")
    assert waited < storage.SQLITE_BUSY_SECONDS, "it has waited for its own process in C"
    assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/profile", headers=alice).status_code == 200


def test_another_process_that_holds_the_sqlite_file_is_waited_for_a_second(sqlite: Flask) -> None:
    client = sqlite.test_client()
    other = sqlite3.connect(file_of(sqlite), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    problem(client.get("/readyz"), 503, "unavailable")
    assert 0.5 < time.monotonic() - began < 3
    other.execute("ROLLBACK")
    other.close()
    assert client.get("/readyz").status_code == 200


def test_the_sqlite_file_is_nobody_elses_business(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        app = create_app(settings(f"sqlite:///{tmp_path}/new.db"))
        with app.app_context():
            ask("SELECT 1")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
        storage.close(app)
    assert set(modes.values()) == {0o600}
    assert "new.db" in modes


# PostgreSQL.


@pytest.mark.usefixtures("postgresql")
def test_what_a_killed_greenlet_leaves_running_in_postgresql_ends_by_itself() -> None:
    for _ in range(2):
        assert ask("SHOW statement_timeout") == "1s"
        assert ask("SHOW lock_timeout") == "1s"
        assert ask("SHOW idle_in_transaction_session_timeout") == "1s"
        assert ask("SHOW client_connection_check_interval") == "1s"
        assert ask("SHOW timezone") == "UTC"
        assert ask("SHOW application_name") == "bytechat"
        assert ask("SHOW synchronous_commit") == "on"
        db.engine.dispose()


@pytest.mark.usefixtures("postgresql")
def test_reading_leaves_no_transaction_open_whatever_the_connection_did_before() -> None:
    """It would be one that the server ends, with the connection, when nothing follows."""
    for _ in range(2):
        with storage.reading() as connection:
            assert connection.scalar(text("SELECT pg_backend_pid()"))
            driver: Any = connection.connection.dbapi_connection
            assert driver.info.transaction_status == TRANSACTION_STATUS_IDLE
        with transaction() as connection:
            connection.execute(text("SELECT 1"))
            driver = connection.connection.dbapi_connection
            assert driver.info.transaction_status == TRANSACTION_STATUS_INTRANS
    assert db.engine.pool.checkedin() == 1, "it was the same connection"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("postgresql")
def test_a_statement_that_takes_too_long_becomes_unavailable() -> None:
    with pytest.raises(OperationalError) as error:
        ask("SELECT pg_sleep(5)")
    assert isinstance(from_database(error.value), Unavailable)
    assert ask("SELECT 1") == 1


def test_a_lock_that_is_not_let_go_becomes_unavailable(postgresql: Flask) -> None:
    client = postgresql.test_client()
    with transaction() as connection:
        connection.execute(text("LOCK TABLE users"))
        answers: list[TestResponse] = []
        thread = threading.Thread(target=lambda: answers.append(client.post("/login", json=ALICE)))
        thread.start()
        # Our own transaction must not be idle for too long either.
        while thread.is_alive():
            connection.execute(text("SELECT 1"))
            thread.join(0.1)
    problem(answers[0], 503, "unavailable")
    problem(client.post("/login", json=ALICE), 401, "invalid_credentials")


def test_connections_that_were_cut_are_replaced(postgresql: Flask) -> None:
    client = postgresql.test_client()
    alice = sign_in(client, "alice")
    for _ in range(3):
        assert cut_connections(db.engine.url) >= 1
        assert client.get("/profile", headers=alice).status_code == 200


@pytest.mark.usefixtures("postgresql")
def test_a_connection_that_is_cut_in_the_middle_costs_one_request() -> None:
    def ask_twice() -> None:
        with transaction() as connection:
            connection.execute(text("SELECT 1"))
            cut_connections(db.engine.url)
            connection.execute(text("SELECT 1"))

    with pytest.raises(DBAPIError) as error:
        ask_twice()
    assert isinstance(from_database(error.value), Unavailable)
    assert ask("SELECT 1") == 1


@pytest.mark.usefixtures("postgresql")
def test_postgresql_has_as_many_connections_as_the_setting_says_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(db.engine.pool, "_timeout", 0.05)
    with transaction(), transaction():
        with pytest.raises(PoolTimeoutError) as error:
            ask("SELECT 1")
        assert isinstance(from_database(error.value), Unavailable)
    assert ask("SELECT 1") == 1
