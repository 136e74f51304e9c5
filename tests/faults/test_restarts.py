"""Workers and servers are replaced and stopped in good order: all are told, and miss nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bytechat.realtime.closing import Code
from tests.support.databases import Databases
from tests.support.people import Person
from tests.support.server import Server

from .audience import Audience, Seat
from .conftest import Scene
from .crowd import Talker, wait_until
from .visitor import Visitor

#: Who talks, and how many sockets listen beside them.
PEOPLE = 10
SOCKETS, SOCKETS_LONG = 40, 490

#: Seconds within which an old process is gone after SIGHUP or SIGTERM. After SIGHUP it stays until
#: the new one is ready; how long that takes on a busy machine is added.
GONE_MAX = 10.0

#: What ``goodbye`` may ask for, in seconds. Without it a client would be back sooner here.
RETRY_AFTER = (0.5, 3.0)

#: Part of the clients that may not have seen it: one that needs over half a second to read is cut
#: off meanwhile, and if it then cannot answer the close frame, websockets drops what came before.
UNTOLD = 0.02


def test_restarts_and_stops_tell_every_socket_and_fail_no_request(
    scene: Scene, databases: Databases
) -> None:
    url = databases.fresh("postgresql")
    began = time.monotonic()
    server = scene.serve(url)
    started = time.monotonic() - began
    people = [Person(server, "talker") for _ in range(PEOPLE)]
    seats = SOCKETS_LONG if scene.long else SOCKETS
    visitor = Visitor(Person(server, "visitor"), scene.ledger)
    with (
        scene.crowd(people, rate=5, longest=50) as crowd,
        Audience(people, seats, scene.ledger) as audience,
    ):
        listeners: list[Talker | Seat] = [*crowd.talkers, *audience.seats]
        with visitor:
            for _ in range(3 if scene.long else 1):
                with everybody_is_told(listeners):
                    seconds = replace_workers(server)
                assert seconds < GONE_MAX + started
        print(f"{visitor.answered} requests were answered, {len(visitor.failures)} were not")
        assert visitor.answered
        assert not visitor.failures, "\n".join(visitor.failures)
        for stop in (server.terminate, server.terminate_all):
            with everybody_is_told(listeners):
                seconds = stop()
                print(f"all was gone {seconds:.3f} s after SIGTERM")
                assert seconds < GONE_MAX
                server.start()
        crowd.finish()
        audience.hear(crowd.talkers[0].position)
    scene.ledger.check(url)


def replace_workers(server: Server) -> float:
    """The seconds from the SIGHUP until the old workers are gone."""
    old = server.workers
    began = time.monotonic()
    server.hang_up()
    assert wait_until(lambda: not any(worker.is_running() for worker in old))
    seconds = time.monotonic() - began
    print(f"the old workers were gone {seconds:.3f} s after SIGHUP")
    return seconds


@contextmanager
def everybody_is_told(listeners: Sequence[Talker | Seat]) -> Iterator[None]:
    """Meanwhile each socket is told when to come back, and in the end all are there again."""
    assert wait_until(lambda: all(one.connected for one in listeners)), "some were never there"
    before = [len(one.breaks) for one in listeners]
    yield
    assert wait_until(
        lambda: all(
            one.connected and len(one.breaks) > count
            for one, count in zip(listeners, before, strict=True)
        )
    ), "some were not cut off, or are not back"
    told = [end for one, count in zip(listeners, before, strict=True) for end in one.breaks[count:]]
    assert {end.code for end in told} == {Code.RESTART}
    earliest, latest = RETRY_AFTER
    untold = [end for end in told if not earliest <= end.wait <= latest]
    assert len(untold) <= UNTOLD * len(told), untold
    assert len({end.wait for end in told}) > len(told) / 2, "they come back together"
    seconds = sorted(end.seconds for end in told)
    print(f"{len(told)} were back, after {seconds[0]:.3f} s to {seconds[-1]:.3f} s")
