"""Sign-outs and who is online, as another worker sees them: in time, and only what is true."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.people import Person, Talk
from tests.support.server import Server

from .buses import Bus
from .conftest import Scene
from .crossing import elsewhere
from .crowd import wait_until

#: Seconds within which a socket on another worker is closed after a sign-out: when the bus tells,
#: and when only the sweep finds it.
TOLD_MAX = 0.5
SWEPT_MAX = 2.0

#: Sign-outs with the bus, one after the other; and without it, at once.
SIGN_OUTS = 50
AT_ONCE = 10


@contextmanager
def signed_in(person: Person, there: Server, far_from: Talk) -> Iterator[tuple[Person, Talk]]:
    """One more sign-in of this person, with a socket that is not on that socket's worker."""
    again = person.at(person.server)
    again.token = again.sign_in()
    with elsewhere(again.at(there), far_from) as talk:
        yield again, talk


def seconds_to_close(person: Person, talk: Talk) -> float:
    """From the answer to the sign-out until the socket is closed."""
    assert person.post("/logout").status_code == 200
    began = time.monotonic()
    assert talk.closed() == 4401
    return time.monotonic() - began


def test_who_signs_out_is_soon_disconnected_everywhere(
    scene: Scene, bus: Bus, deployment: str
) -> None:
    """Without the bus it is found by the sweep, also when many sign out at once."""
    servers = scene.deploy(deployment, bus)
    alice = Person(servers[0])
    with ExitStack() as stack:
        first = stack.enter_context(alice.talk())
        second = stack.enter_context(elsewhere(alice.at(servers[-1]), first))
        assert wait_until(lambda: bus.lines() == 2), "both workers listen"

        # With two workers of one server a sign-out may come to either: every second one crosses.
        def many(count: int, workers: int) -> list[float]:
            with ExitStack() as open_ones, ThreadPoolExecutor(workers) as pool:
                pairs = [
                    open_ones.enter_context(signed_in(alice, servers[-1], first))
                    for _ in range(count)
                ]
                return sorted(pool.map(lambda pair: seconds_to_close(*pair), pairs))

        told = many(SIGN_OUTS, 1)
        print(f"over the bus: {told[len(told) // 2]:.3f} s (p50), {told[-1]:.3f} s at most")
        assert told[-1] < TOLD_MAX
        with bus.away():
            swept = many(AT_ONCE, AT_ONCE)
        print(f"without: {swept[len(swept) // 2]:.3f} s (p50), {swept[-1]:.3f} s at most")
        assert swept[-1] < SWEPT_MAX
        assert second.alive()
        assert first.alive()


#: Seconds within which it is seen that somebody is gone: ten without a sign of life, or without a
#: socket, and then a sweep and the turn in which it is told. Not before.
GONE_MIN, GONE_MAX = 8.0, 15.0


@pytest.mark.parametrize("ending", ["killed", "replaced"])
def test_who_is_online_stays_exact_when_a_worker_ends(scene: Scene, bus: Bus, ending: str) -> None:
    """Who comes back to another worker was never away; who does not is gone after ten seconds."""
    here, there = scene.deploy("two servers", bus)
    onlooker, back, gone = Person(there), Person(here, "back"), Person(here, "gone")
    everybody = {onlooker.id, back.id, gone.id}
    with ExitStack() as stack:
        watch = stack.enter_context(onlooker.talk())
        before = [stack.enter_context(person.talk()) for person in (back, gone)]
        assert wait_until(lambda: online(onlooker) == everybody, 5)
        began = time.monotonic()
        if ending == "killed":
            (worker,) = here.workers
            scene.kill(worker)
            stack.enter_context(back.at(there).talk())
        else:
            here.hang_up()
            assert [talk.closed() for talk in before] == [1012, 1012]
            began = time.monotonic()
            stack.enter_context(come_back(back))
        shown = []
        while time.monotonic() < began + GONE_MAX:
            with suppress(TimeoutError):
                frame = json.loads(watch.socket.recv(0.1))
                if frame["type"] == "presence":
                    shown.append((frame["user"]["id"], frame["online"], time.monotonic() - began))
        print(f"shown were {shown}")
        arrived = [(person.id, True) for person in (back, gone)]
        left = [(user, on) for user, on, _ in shown if (user, on) not in arrived]
        assert left == [(gone.id, False)]
        assert shown[-1][2] > GONE_MIN
        assert online(onlooker) == everybody - {gone.id} == online(back)


def come_back(person: Person) -> Talk:
    """A socket; the old worker may still refuse some."""
    while True:
        with suppress(OSError, InvalidStatus):
            return person.talk()
        time.sleep(0.1)


def online(person: Person) -> set[int]:
    """Who is said to be online to somebody who comes."""
    with person.talk() as talk:
        return set(talk.hello["online"])
