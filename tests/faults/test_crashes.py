"""The server is killed, or its database: what was acked is there once, and everybody hears it."""

from __future__ import annotations

import time

from tests.support.databases import Databases

from .conftest import Scene

#: Messages that all have heard before it goes wrong again.
SOME = 20


def test_nothing_is_lost_or_doubled_when_the_server_is_killed(scene: Scene, url: str) -> None:
    server = scene.serve(url)
    with scene.crowd(scene.people(server)) as crowd:
        for _ in range(scene.size.rounds):
            crowd.hear(SOME)
            time.sleep(scene.dice.uniform(0, 0.1))
            server.kill()
            server.start()
        crowd.finish()
    scene.ledger.check(url)
    for talker in crowd.talkers:
        seqs = [sent.result().seq for sent in talker.sent]
        assert seqs == sorted(seqs), "what was unacked was not sent again in its order"


def test_nothing_is_lost_or_doubled_when_postgresql_restarts_at_once(
    scene: Scene, own_databases: Databases
) -> None:
    url = own_databases.fresh("postgresql")
    server = scene.serve(url)
    with scene.crowd(scene.people(server)) as crowd:
        for _ in range(2 * scene.size.rounds):
            crowd.hear(SOME)
            time.sleep(scene.dice.uniform(0, 0.1))
            own_databases.crash_postgresql()
        crowd.hear(SOME)
        crowd.finish()
    scene.ledger.check(url)
