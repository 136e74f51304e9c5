"""A real server for each kind of database, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.databases import Databases
from tests.support.deployments import ALL, ALONE, USUAL_TOGETHER, Deployment, Deployments
from tests.support.people import Person
from tests.support.server import Server, wait_for_all

StartServer = Callable[..., Server]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("live")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test over the deployments for which it makes sense; over all of them with --matrix."""
    if "deployment" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        if marked("any_database"):
            chosen = ALONE[:1]
        elif metafunc.config.getoption("--matrix"):
            chosen = ALONE if marked("one_worker") else ALL
        else:
            chosen = USUAL_TOGETHER if marked("together") and not marked("one_worker") else ALONE
        metafunc.parametrize("deployment", chosen, indirect=True, scope="module", ids=str)


@pytest.fixture(scope="session")
def deployments(databases: Databases) -> Iterator[Deployments]:
    made = Deployments(databases)
    yield made
    wait_for_all()
    made.close()


@pytest.fixture(scope="module")
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """The way in which a test's server is deployed."""
    chosen: Deployment = request.param
    return chosen


@pytest.fixture(scope="module")
def server(deployment: Deployment, deployments: Deployments) -> Iterator[Server]:
    """Shared: whoever leaves it changed (stops it, fills it) takes start_server instead."""
    with deployments.start(deployment) as running:
        yield running
        check_log(running)


@pytest.fixture
def start_server(deployment: Deployment, deployments: Deployments) -> Iterator[StartServer]:
    """Starts servers of one's own; takes settings as the environment has them."""
    with ExitStack() as stack:

        def start(**settings: str) -> Server:
            return stack.enter_context(deployments.start(deployment, **settings))

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
