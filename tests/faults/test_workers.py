"""Workers are killed, replaced and stopped while people talk: who was cut off misses nothing."""

from __future__ import annotations

import time

from tests.support.people import Person

from .buses import Bus
from .conftest import Scene
from .crowd import wait_until

#: Who talks, how often each of them does in a second, and the seconds between two kills.
PEOPLE, PEOPLE_LONG = 12, 50
RATE = 5
KILL_EVERY = 5.0

#: Seconds within which 19 of 20 clients whose worker was killed have another one, on a machine that
#: has time for them: some wait for the worker that takes the place.
BACK_MAX = 3.0


def test_a_worker_that_is_killed_costs_its_clients_a_moment_and_no_message(
    scene: Scene, bus: Bus
) -> None:
    began = time.monotonic()
    server = scene.serve(bus.database_url, **bus.settings)
    started = time.monotonic() - began
    people = [Person(server, "talker") for _ in range(PEOPLE_LONG if scene.long else PEOPLE)]
    with scene.crowd(people, rate=len(people) * RATE, longest=50, may_reset=True) as crowd:
        crowd.gather()
        for number in range(12 if scene.long else 1):
            assert wait_until(lambda: len(server.workers) == 2)
            crowd.hear(RATE)
            time.sleep(scene.dice.uniform(0, 0.1))
            scene.kill(server.workers[number % 2])
            time.sleep(KILL_EVERY)
        crowd.gather()
        crowd.hear(RATE)
        crowd.finish()
    scene.ledger.check(bus.database_url)
    seconds = sorted(ended.seconds for ended in crowd.breaks)
    assert seconds, "nobody was cut off"
    p50, p95 = (seconds[len(seconds) * part // 100] for part in (50, 95))
    print(f"the server was there after {started:.3f} s; {len(seconds)} clients were back")
    resets = sum(talker.resets for talker in crowd.talkers)
    print(
        f"after {p50:.3f} s (p50), {p95:.3f} s (p95), {seconds[-1]:.3f} s at most; {resets} resets"
    )
    if scene.long:  # which runs alone
        assert p95 < BACK_MAX
