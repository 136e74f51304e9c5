"""A real server for each kind of database, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import KINDS
from tests.support.databases import Databases
from tests.support.people import Person
from tests.support.server import Server

StartServer = Callable[..., Server]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("live")


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    """Shared: whoever leaves it changed (stops it, fills it) takes start_server instead."""
    with Server(databases.fresh(request.param)) as running:
        yield running
        check_log(running)


@pytest.fixture(params=KINDS)
def start_server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[StartServer]:
    """Starts servers of one's own; takes settings as the environment has them."""
    with ExitStack() as stack:

        def start(**settings: str) -> Server:
            return stack.enter_context(Server(databases.fresh(request.param), **settings))

        yield start


@pytest.fixture
def alice(server: Server) -> Person:
    return Person(server, "alice")


@pytest.fixture
def bob(server: Server) -> Person:
    return Person(server, "bob")


def check_log(server: Server, killed: Iterable[int] = ()) -> None:
    """Nothing that was done to the server has shaken it.

    Of the workers that were ``killed`` (process ids) gunicorn may say so.
    """
    log = server.lines()
    for pid in killed:
        said = f'level=ERROR logger=gunicorn.error msg="Worker (pid:{pid}) was sent SIGKILL!'
        log = log.replace(said, "")
    assert "Traceback" not in log, log
    assert "level=ERROR" not in log, log
