"""A real outage of an application's database, and its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
from flask import Flask
from sqlalchemy import URL

from bytechat.extensions import db


@contextmanager
def outage(app: Flask) -> Iterator[None]:
    """While it lasts, open connections are cut and there are no new ones; the data stay."""
    with app.app_context():
        engine = db.engine
    if engine.dialect.name == "sqlite":
        engine.dispose()
        assert engine.url.database
        with _out_of_the_way(Path(engine.url.database)):
            yield
    else:
        _allow_connections(engine.url, "false")
        cut_connections(engine.url)
        yield
        _allow_connections(engine.url, "true")


def cut_connections(url: URL) -> int:
    """End all connections of a PostgreSQL database from the server's side; how many there were."""
    query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
    count = _ask(url, query, url.database)
    assert isinstance(count, int)
    return count


@contextmanager
def _out_of_the_way(file: Path) -> Iterator[None]:
    away = file.rename(file.with_suffix(".away"))
    file.mkdir()  # or SQLite would make an empty database
    yield
    file.rmdir()
    away.rename(file)


def _allow_connections(url: URL, allow: str) -> None:
    query = "UPDATE pg_database SET datallowconn = %s WHERE datname = %s RETURNING 1"
    assert _ask(url, query, allow, url.database) == 1


def _ask(url: URL, query: str, *parameters: str | None) -> object:
    """One question to the server, over its own database."""
    server = url.set(drivername="postgresql", database="postgres")
    with closing(psycopg2.connect(server.render_as_string(hide_password=False))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(query, parameters)
        row = cursor.fetchone()
        assert row
        return row[0]
