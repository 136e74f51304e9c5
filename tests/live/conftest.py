"""A real server for each kind of database, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import KINDS
from tests.support.databases import Databases
from tests.support.people import Person
from tests.support.server import Server

StartServer = Callable[..., Server]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each kind of database in turn; one of them for a test that is not about storage."""
    if "kind" in metafunc.fixturenames:
        one = metafunc.definition.get_closest_marker("any_database")
        metafunc.parametrize("kind", KINDS[:1] if one else KINDS, indirect=True, scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("live")


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database of a test."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str, databases: Databases) -> Iterator[Server]:
    """Shared: whoever leaves it changed (stops it, fills it) takes start_server instead."""
    with Server(databases.fresh(kind)) as running:
        yield running
        check_log(running)


@pytest.fixture
def start_server(kind: str, databases: Databases) -> Iterator[StartServer]:
    """Starts servers of one's own; takes settings as the environment has them."""
    with ExitStack() as stack:

        def start(**settings: str) -> Server:
            return stack.enter_context(Server(databases.fresh(kind), **settings))

        yield start


@pytest.fixture
def alice(server: Server) -> Person:
    return Person(server, "alice")


@pytest.fixture
def bob(server: Server) -> Person:
    return Person(server, "bob")


def check_log(server: Server) -> None:
    """Nothing that was done to the server has shaken it."""
    log = server.lines()
    assert "Traceback" not in log, log
    assert "level=ERROR" not in log, log
