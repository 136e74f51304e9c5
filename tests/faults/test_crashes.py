"""The server is killed, or its database is: what was acked is there once, and everybody hears it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random

import pytest

from tests.support.databases import Databases
from tests.support.ledger import Ledger

from .conftest import Gather, Size, StartServer
from .crowd import Crowd

#: Messages that all have heard before it goes wrong again.
SOME = 20


def test_nothing_is_lost_or_doubled_when_the_server_is_killed(
    size: Size, url: str, serve: StartServer, gather: Gather, ledger: Ledger, dice: Random
) -> None:
    server = serve(url)
    with Crowd(gather(server), ledger, dice) as crowd:
        for _ in range(size.rounds):
            crowd.hear(SOME)
            time.sleep(dice.uniform(0, 0.1))
            server.kill()
            server.start()
        crowd.finish()
    ledger.check(url)
    for talker in crowd.talkers:
        seqs = [sent.result().seq for sent in talker.sent]
        assert seqs == sorted(seqs), "what was unacked was not sent again in its order"


@pytest.fixture
def own_databases() -> Iterator[Databases]:
    """With a PostgreSQL that a test may mistreat."""
    own = Databases()
    yield own
    own.close()


def test_nothing_is_lost_or_doubled_when_postgresql_restarts_at_once(
    size: Size,
    own_databases: Databases,
    serve: StartServer,
    gather: Gather,
    ledger: Ledger,
    dice: Random,
) -> None:
    url = own_databases.fresh("postgresql")
    server = serve(url)
    with Crowd(gather(server), ledger, dice) as crowd:
        for _ in range(size.rounds):
            crowd.hear(SOME)
            time.sleep(dice.uniform(0, 0.1))
            own_databases.crash_postgresql()
        crowd.hear(SOME)
        crowd.finish()
    ledger.check(url)
