"""What every fault needs: a size, a ledger, dice that fall the same way again, and people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from bytechat.client.retry import Backoff
from tests.conftest import KINDS
from tests.live.conftest import check_log
from tests.support.databases import Databases
from tests.support.ledger import Ledger
from tests.support.people import Person
from tests.support.server import Server

SEED = 20_261_122


class Size(NamedTuple):
    """How many people there are, and how often it goes wrong."""

    people: int
    rounds: int


SHORT = Size(people=3, rounds=2)
LONG = Size(people=8, rounds=20)

StartServer = Callable[..., Server]
Gather = Callable[[Server], list[Person]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    return LONG if request.config.getoption("--long") else SHORT


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def dice() -> Random:
    return Random(SEED)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients come back soon: how long they wait is tested elsewhere."""
    monkeypatch.setattr(Backoff.__init__, "__defaults__", (0.05, 0.5))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def serve() -> Iterator[StartServer]:
    """Starts servers as one would for many people: with two workers, where that is possible.

    Whatever happens to one, it leaves no traceback in its log.
    """
    with ExitStack() as stack:
        started = []

        def start(url: str, command: str = "gunicorn", **settings: str) -> Server:
            workers = "2" if url.startswith("postgresql") else "1"
            server = Server(url, command, WEB_CONCURRENCY=workers, **settings)
            started.append(server)
            return stack.enter_context(server)

        yield start
        for server in started:
            check_log(server)


@pytest.fixture
def gather(size: Size) -> Gather:
    """Registers the people of a crowd."""
    return lambda server: [Person(server, "talker") for _ in range(size.people)]


@pytest.fixture
def url(kind: str, databases: Databases) -> str:
    """The address of a fresh database, of each kind in turn."""
    return databases.fresh(kind)
