"""What every fault needs: a size, a ledger, dice that fall the same way again, servers, a crowd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import cycle, product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from psutil import Process

from bytechat.client.retry import Backoff
from tests.conftest import KINDS
from tests.live.conftest import check_log
from tests.support.databases import Databases
from tests.support.ledger import Ledger
from tests.support.people import Person
from tests.support.server import Server
from tests.support.valkey import Valkey

from .buses import Bus, PostgresBus, ValkeyBus
from .crowd import Crowd

#: What carries the bus.
BUSES = [OVER_POSTGRESQL := "over postgresql", "over valkey"]

#: The workers of each server of a deployment.
DEPLOYMENTS = {"two workers": ["2"], "two servers": ["1", "1"]}


class Size(NamedTuple):
    """How many people there are, and how often it goes wrong."""

    people: int
    rounds: int


SHORT = Size(people=2, rounds=1)
LONG = Size(people=8, rounds=12)


class Scene:
    """Where it goes wrong."""

    def __init__(self, size: Size, seed: int, stack: ExitStack) -> None:
        self.size = size
        self.long = size is LONG
        self.ledger = Ledger()
        self.dice = Random(seed)
        self.servers: list[Server] = []
        self.killed: list[int] = []
        self._stack = stack

    def serve(self, url: str, command: str = "gunicorn", **settings: str) -> Server:
        """Start a server as one would for many people: with two workers, where that is possible."""
        workers = "2" if url.startswith("postgresql") else "1"
        server = Server(url, command, **{"WEB_CONCURRENCY": workers, **settings})
        self.servers.append(server)
        return self._stack.enter_context(server)

    def deploy(self, deployment: str, bus: Bus) -> list[Server]:
        """Start servers that share a database and a bus."""
        return [
            self.serve(bus.database_url, WEB_CONCURRENCY=workers, **bus.settings)
            for workers in DEPLOYMENTS[deployment]
        ]

    def kill(self, worker: Process) -> None:
        """End one worker of a server, which starts another one in its place."""
        self.killed.append(worker.pid)
        worker.kill()

    def people(self, *servers: Server, stem: str = "talker") -> list[Person]:
        """As many as there are to be, spread over the servers."""
        return [Person(server, stem) for server, _ in zip(cycle(servers), range(self.size.people))]

    def crowd(self, people: list[Person], **options: Any) -> Crowd:
        return Crowd(people, self.ledger, self.dice, **options)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Whatever happens to its servers, they leave no traceback in their logs."""
    size = LONG if request.config.getoption("--long") else SHORT
    seed = request.config.getoption("--seed")
    print(f"to repeat this: --seed {seed}")
    with ExitStack() as stack:
        scene = Scene(size, seed, stack)
        yield scene
        for server in scene.servers:
            check_log(server, scene.killed)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients come back soon: how long they wait is tested elsewhere."""
    monkeypatch.setattr(Backoff.__init__, "__defaults__", (0.05, 0.5))


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, databases: Databases) -> str:
    """The address of a fresh database, of each kind in turn."""
    return databases.fresh(request.param)


@pytest.fixture
def own_databases() -> Iterator[Databases]:
    """With a PostgreSQL that a test may mistreat."""
    own = Databases()
    yield own
    own.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each bus with each deployment in the long form; each of them once in the short one."""
    long = metafunc.config.getoption("--long")
    kinds = {"bus": BUSES, "deployment": list(DEPLOYMENTS)}
    wanted = [name for name in kinds if name in metafunc.fixturenames]
    if wanted == ["bus", "deployment"]:
        pairs = list(product(*kinds.values()) if long else zip(*kinds.values(), strict=True))
        metafunc.parametrize(wanted, pairs, indirect=True)
    for name in wanted if len(wanted) == 1 else []:
        metafunc.parametrize(name, kinds[name] if long else kinds[name][:1], indirect=True)


@pytest.fixture
def bus(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Bus]:
    """A fresh PostgreSQL, and each kind of bus in turn."""
    url = databases.fresh("postgresql")
    if request.param == OVER_POSTGRESQL:
        with closing(PostgresBus(url)) as postgresql:
            yield postgresql
    else:
        with Valkey() as valkey:
            yield ValkeyBus(url, valkey)


@pytest.fixture
def deployment(request: pytest.FixtureRequest) -> str:
    """What shares the bus, for ``Scene.deploy``."""
    name: str = request.param
    return name
