"""The bus between workers is cut, is away or is silent: that costs a second, and no message."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.databases import Databases
from tests.support.people import Person
from tests.support.server import Server
from tests.support.valkey import Valkey

from .buses import Bus, ValkeyBus
from .conftest import Scene
from .crossing import Crossing
from .crowd import Crowd, wait_until

#: Seconds that a message may take to the other workers by the sweep alone.
DELAY_MAX = 2.0

#: Seconds after which the bus carries again, when it can; it is tried every two seconds at least.
BACK_MAX = 10.0

#: Seconds for an answer that needs what does not answer, and for one that needs nothing.
REFUSED_MAX = 10.0
AT_ONCE = 1.0


@contextmanager
def talk(scene: Scene, servers: list[Server], bus: Bus) -> Iterator[tuple[Crowd, Crossing]]:
    """People talk, and it is looked how long it takes across; in the end nothing is missing."""
    near, far = Person(servers[0], "near"), Person(servers[-1], "far")
    with (
        scene.crowd(scene.people(*servers), rate=30) as crowd,
        Crossing(near, far, scene.ledger) as crossing,
    ):
        yield crowd, crossing
        crowd.hear(5)
        crowd.finish()
    scene.ledger.check(bus.database_url)


def test_a_bus_that_is_cut_or_away_costs_a_moment_and_no_message(
    scene: Scene, bus: Bus, deployment: str
) -> None:
    servers = scene.deploy(deployment, bus)
    rounds, seconds = (3, 10) if scene.long else (1, 3)
    with talk(scene, servers, bus) as (crowd, crossing):
        for _ in range(rounds):
            check_bus(bus, crowd, crossing)
            bus.cut()
            assert crossing.longest(1) < DELAY_MAX
            check_bus(bus, crowd, crossing)
            with bus.away():
                assert crossing.longest(1) < DELAY_MAX
                with crowd.hushed():
                    assert crossing.longest(seconds) < DELAY_MAX
            check_bus(bus, crowd, crossing)


def test_without_an_answer_from_valkey_people_talk_on_and_only_readyz_complains(
    scene: Scene, databases: Databases, deployment: str
) -> None:
    with Valkey() as valkey:
        bus = ValkeyBus(databases.fresh("postgresql"), valkey)
        servers = scene.deploy(deployment, bus)
        rounds, seconds = (3, 10) if scene.long else (1, 3)
        with talk(scene, servers, bus) as (crowd, crossing):
            for _ in range(rounds):
                check_bus(bus, crowd, crossing)
                valkey.freeze()
                assert crossing.longest(1) < DELAY_MAX
                with crowd.hushed():
                    assert crossing.longest(seconds) < DELAY_MAX
                for server in servers:
                    check_without_answer(crossing.near.at(server))
                valkey.thaw()
                check_bus(bus, crowd, crossing)
                for server in servers:
                    check_ready(crossing.near.at(server))


def check_without_answer(person: Person) -> None:
    """Only who asks for the bus itself waits for it, and not for long."""
    began = time.monotonic()
    ready = person.get("/readyz")
    assert time.monotonic() - began < REFUSED_MAX
    assert ready.status_code == 503
    assert "bus" in ready.json()["detail"]
    for path in ("/healthz", "/profile"):
        began = time.monotonic()
        assert person.get(path).ok
        assert time.monotonic() - began < AT_ONCE
    with person.talk() as talk:
        assert talk.alive()


def check_ready(person: Person) -> None:
    assert wait_until(lambda: person.get("/readyz").ok, BACK_MAX)


def check_bus(bus: Bus, crowd: Crowd, crossing: Crossing) -> None:
    """The bus carries, or does so soon.

    While others talk it cannot be told: what is said at a worker shows it what it has missed.
    """
    with crowd.hushed():
        assert crossing.is_quick(BACK_MAX)
    assert wait_until(lambda: bus.lines() == 2, BACK_MAX), "one of the workers does not listen"
