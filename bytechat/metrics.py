"""What a worker tells Prometheus: its state, read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.metrics_core import SummaryMetricFamily
from prometheus_client.registry import Collector

from .auth import passwords
from .chat.runtime import Runtime
from .extensions import db

__all__ = ["CONTENT_TYPE", "exposition"]


def exposition(runtime: Runtime) -> bytes:
    """This worker's figures, in Prometheus' text format. Needs an application context."""
    registry = CollectorRegistry()
    registry.register(_Figures(runtime))
    return generate_latest(registry)


class _Figures(Collector):
    """Each figure is labelled with its worker, as a scrape may reach any of them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        runtime = self._runtime
        neighbours, journal, hub = runtime.neighbours, runtime.journal, runtime.hub
        bus = neighbours.bus
        pool: Any = db.engine.pool
        sockets = neighbours.sockets | {runtime.worker: len(hub)}
        yield self._gauge("sockets", "Open sockets of each worker that lives.", sockets)
        yield self._own("seats_left", "Sockets that the worker can still take.", runtime.seats_left)
        yield self._own("journal_queue", "Messages that wait to be committed.", journal.waiting)
        yield self._own(
            "hash_queue", "Passwords that are hashed, or wait for it.", passwords.waiting()
        )
        yield self._own("database_pool_size", "Connections of the pool.", pool.size())
        yield self._own("database_pool_in_use", "Those of them in use.", pool.checkedout())
        yield self._count("messages_committed", "New messages, committed.", journal.committed)
        yield self._count("frames_delivered", "Messages given to sockets.", hub.frames_delivered)
        yield self._count("delivered_bytes", "The bytes of these.", hub.bytes_delivered)
        yield self._count("bus_hints_sent", "What the others were told.", bus.sent)
        yield self._count("bus_hints_received", "What was heard on the bus.", bus.received)
        yield self._count("bus_reconnects", "Lines to the bus that stand again.", bus.reconnects)
        up = GaugeMetricFamily(
            "bytechat_bus_up", "Whether the line to the bus stands.", labels=["worker", "bus"]
        )
        up.add_metric([runtime.worker, bus.name], float(bus.up))
        yield up
        swept = SummaryMetricFamily(
            "bytechat_sweep_duration_seconds",
            "Comparisons with the database, and how long they took.",
            labels=["worker"],
        )
        swept.add_metric([runtime.worker], neighbours.sweeps, neighbours.sweep_seconds)
        yield swept

    def _gauge(self, name: str, about: str, values: dict[str, int]) -> Metric:
        gauge = GaugeMetricFamily(f"bytechat_{name}", about, labels=["worker"])
        for worker, value in values.items():
            gauge.add_metric([worker], value)
        return gauge

    def _own(self, name: str, about: str, value: int) -> Metric:
        return self._gauge(name, about, {self._runtime.worker: value})

    def _count(self, name: str, about: str, value: int) -> Metric:
        counter = CounterMetricFamily(f"bytechat_{name}", about, labels=["worker"])
        counter.add_metric([self._runtime.worker], value)
        return counter
