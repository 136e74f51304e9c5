"""The database: one short transaction at a time, on SQLite and on PostgreSQL."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
from flask import Flask
from gevent.monkey import is_module_patched
from psycogreen.gevent import gevent_wait_callback
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

from .config import Settings
from .extensions import db, migrate

#: Seconds that SQLite waits for another process (a migration, a backup) to let go of the file. It
#: waits in C and so holds every greenlet; a request that gives up is told to come again.
SQLITE_BUSY_SECONDS = 1.0

#: Seconds to wait for a free connection before the answer is 503. Whoever gets one from a database
#: that does not answer waits for DATABASE_TIMEOUT too: with its 5 s, all are answered within 10 s.
POOL_SECONDS = 4.0


def transaction() -> AbstractContextManager[Connection]:
    """One unit of work: commits at the end, rolls back if it raises, and frees the connection.

    Statements are SQLAlchemy Core's, over the models' columns: rows that cannot change need no
    identity map, and a Session would double what a request costs. Needs an application context.

    Never wait for a socket, a password hash or another transaction inside: on SQLite there is one
    connection, and whoever wants it next is waiting for this block.
    """
    return db.engine.begin()


def reading() -> AbstractContextManager[Connection]:
    """For statements that only read, each of them by itself: there is no transaction round them.

    On PostgreSQL a statement is then one way to the server and back, and not three.
    """
    return single_statements(db.engine)


def single_statements(engine: Engine) -> AbstractContextManager[Connection]:
    """A connection on which each statement is a transaction of its own.

    Not by SQLAlchemy's own AUTOCOMMIT: on PostgreSQL to change that back takes two more ways to the
    server each time.
    """
    return engine.connect().execution_options(single_statements=True)


def init_app(app: Flask, settings: Settings) -> None:
    """Bind the database and its migrations to the application."""
    options = _sqlite_options() if settings.on_sqlite else _postgresql_options(settings)
    # Errors end in the log, and parameters are what people wrote.
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {**options, "hide_parameters": True}
    db.init_app(app)
    migrate.init_app(app, db)
    with app.app_context():
        if settings.on_sqlite:
            assert db.engine.url.database
            # Hashes and messages are nobody else's business; SQLite's other files take on the mode.
            Path(db.engine.url.database).touch(mode=0o600)
            _tune_sqlite(db.engine)
            return
        _tune_postgresql(db.engine)
        if is_module_patched("socket"):
            # Only under gevent; `flask db` and `flask run` have threads and may block.
            psycopg2.extensions.set_wait_callback(
                partial(_wait_cooperatively, seconds=settings.database_timeout)
            )


def close(app: Flask) -> None:
    """Close all connections; SQLite then folds its log back into the one file."""
    with app.app_context():
        db.engine.dispose()


def _sqlite_options() -> dict[str, Any]:
    """A pool of one connection is the write lock: whoever waits for it waits as a greenlet.

    With two connections a greenlet could be switched away inside its transaction, and the next
    would wait in C, with the whole process, for a lock that this process itself holds.
    """
    return {
        "pool_size": 1,
        "max_overflow": 0,
        "pool_timeout": POOL_SECONDS,
        "connect_args": {"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
    }


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # BEGIN is ours, below, and comes before all else
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # an ack means that the disk has it
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_immediate(connection: Connection) -> None:
        # A transaction that reads first and takes the write lock later cannot wait for it: it fails
        # at once if another process has written in between (SQLITE_BUSY_SNAPSHOT).
        if not _is_single(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgresql_options(settings: Settings) -> dict[str, Any]:
    milliseconds = int(settings.database_timeout * 1000)
    server_settings = {
        "timezone": "UTC",
        # What a killed greenlet has left running ends by itself.
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        "client_connection_check_interval": 1000,
    }
    return {
        "pool_size": settings.database_pool,
        "max_overflow": 0,
        "pool_timeout": POOL_SECONDS,
        "connect_args": {
            "connect_timeout": max(2, int(settings.database_timeout)),
            "application_name": "bytechat",
            "options": " ".join(f"-c {name}={value}" for name, value in server_settings.items()),
        },
    }


def _tune_postgresql(engine: Engine) -> None:
    @event.listens_for(engine, "checkout")
    def check_alive(connection: Any, _record: object, _proxy: object) -> None:
        """Have the pool replace a connection that the server has closed, before it is used.

        So a restarted server costs one reconnection, and not one error for each connection. libpq
        looks at its socket, which takes a microsecond; ``pool_pre_ping`` would ask the server each
        time. The first look finds the server's last words, the second the end.
        """
        try:
            connection.poll()
            connection.poll()
            connection.autocommit = True  # until begin() below
        except psycopg2.Error as error:
            raise DisconnectionError from error

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not _is_single(connection):
            driver: Any = connection.connection.dbapi_connection
            driver.autocommit = False  # psycopg2 says BEGIN itself, before the next statement


def _is_single(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("single_statements"))


def _wait_cooperatively(connection: Any, seconds: float) -> None:
    """psycogreen's wait callback, with an end.

    libpq's connect_timeout does not work under a wait callback (psycogreen#2), and a server that
    accepts and never answers would hold the greenlet for ever. psycopg2 closes a connection whose
    callback has raised; to close it here would wait for a lock that psycopg2 holds meanwhile.
    """
    try:
        gevent_wait_callback(connection, timeout=seconds)
    except TimeoutError as error:
        raise psycopg2.OperationalError("the database did not answer in time") from error
