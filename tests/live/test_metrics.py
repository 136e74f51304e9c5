"""The figures of two workers while people talk."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import requests
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.support.databases import Databases
from tests.support.people import Person
from tests.support.server import CLOSE, Server

Figures = dict[str, dict[str, float]]


def gather(server: Server) -> Figures:
    """The newest figures of both workers, by name and worker."""
    found: dict[str, Figures] = {}
    while len(found) < 2:
        text = requests.get(f"{server.url}/metrics", headers=CLOSE, timeout=10).text
        figures: Figures = {}
        for family in parse(text):
            for sample in family.samples:
                figures.setdefault(sample.name, {})[sample.labels["worker"]] = sample.value
        (worker,) = figures["bytechat_seats_left"]
        found[worker] = figures
    first, second = found.values()
    return {name: second[name] | values for name, values in first.items()}


def until(server: Server, true: Callable[[Figures], bool]) -> Figures:
    deadline = time.monotonic() + 15
    while not true(figures := gather(server)):
        assert time.monotonic() < deadline, figures
        time.sleep(0.2)
    return figures


def test_sockets_messages_deliveries_and_hints_are_counted(databases: Databases) -> None:
    with (
        Server(databases.fresh("postgresql"), WEB_CONCURRENCY="2") as server,
        ExitStack() as stack,
    ):
        alice = Person(server)
        talks = [stack.enter_context(alice.talk()) for _ in range(10)]
        assert len({talk.hello["worker"] for talk in talks}) == 2
        for number, talk in enumerate(talks):
            talk.send(type="send", room=1, text="hello", client_id=f"c{number}")
        for talk in talks:
            for _ in talks:
                talk.next("message")
        figures = until(server, lambda now: sum(now["bytechat_sockets"].values()) == 10)
        taken = {worker: 9900 - left for worker, left in figures["bytechat_seats_left"].items()}
        assert taken == figures["bytechat_sockets"]
        assert sum(figures["bytechat_messages_committed_total"].values()) == 10
        assert sum(figures["bytechat_frames_delivered_total"].values()) == 100
        assert sum(figures["bytechat_delivered_bytes_total"].values()) > 100 * len("hello")
        assert set(figures["bytechat_bus_up"].values()) == {1}
        assert all(figures["bytechat_bus_hints_sent_total"].values())
        assert all(figures["bytechat_bus_hints_received_total"].values())
        assert set(figures["bytechat_bus_reconnects_total"].values()) == {0}
        before = figures["bytechat_sweep_duration_seconds_count"]
        until(
            server,
            lambda now: all(
                now["bytechat_sweep_duration_seconds_count"][worker] > count
                and now["bytechat_sweep_duration_seconds_sum"][worker] > 0
                for worker, count in before.items()
            ),
        )
