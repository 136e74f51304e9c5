"""``python -m bench.capacity``: what so many people need, from what was measured of each part.

Arithmetic only. What people do is assumed (``Habits``, ``KINDS``), what it costs was measured on
one machine (``Costs``); docs/scaling.md has exactly what this prints, and how far to believe it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from .costs import (
    ASSUMED,
    BUSY,
    COMMIT,
    COSTS,
    DATABASE_CORES,
    DAY,
    HABITS,
    ID,
    KINDS,
    MACHINE,
    MEASURED,
    PASS,
    PRESENCE,
    ROW,
    SOCKETS_PER_WORKER,
    TOLD_TOGETHER,
    WORKERS_PER_MACHINE,
    Costs,
    Habits,
    Kind,
)
from .simulate import expected, print_or_write
from .tables import Column, Row, Table, count, markdown, plain, small

#: Connected people, for each of whom there is a column.
SIZES = (10_000, 1_000_000, 100_000_000)


def delivery(costs: Costs, rate: float) -> float:
    """us for one delivery in a room with so many messages/s; those of one pass are one write."""
    together = max(1.0, rate * PASS)
    return costs.write / together + costs.gathered


def taking_in(costs: Costs, rate: float) -> float:
    """us for one message in a worker that takes in so many each second."""
    return costs.batched + costs.take_in / max(1.0, rate * COMMIT)


@dataclass(frozen=True)
class Model:
    """So many connected people, with these habits, at these costs."""

    connected: int
    habits: Habits = ASSUMED
    costs: Costs = MEASURED

    @property
    def people(self) -> float:
        return self.connected / self.habits.online

    @property
    def workers(self) -> int:
        return math.ceil(self.connected / SOCKETS_PER_WORKER)

    @property
    def messages(self) -> float:
        """Messages/s at the peak."""
        return self.people * self.habits.messages / DAY * self.habits.peak

    def others(self, kind: Kind) -> float:
        """Members who are connected, besides one."""
        return (kind.members - 1) * self.habits.online

    @property
    def reach(self) -> float:
        """Sockets that are given a message, the sender's among them."""
        return 1 + sum(kind.share * self.others(kind) for kind in KINDS)

    @property
    def deliveries(self) -> float:
        return self.messages * self.reach

    @property
    def connects(self) -> float:
        return self.connected / self.habits.session

    @property
    def turns(self) -> float:
        """Comings and goings/s that are shown."""
        return 2 * self.connects * self.habits.seen

    @property
    def heard_by(self) -> float:
        """Workers besides the sender's that have somebody of a message's room."""
        if self.workers == 1:
            return 0
        return sum(
            kind.share
            * (self.workers - 1)
            / self.workers
            * expected(self.others(kind), self.workers)
            for kind in KINDS
        )

    @property
    def rooms_per_worker(self) -> float:
        """Different rooms that a worker has somebody in."""
        return sum(
            self.people * kind.each / kind.members
            * expected(kind.members * self.habits.online, self.workers) / self.workers
            for kind in KINDS
        )  # fmt: skip

    # Cores, at the peak.

    def worker_cores(self, *, on_valkey: bool = True) -> dict[str, float]:
        """Of all workers together, by what for."""
        costs, workers = self.costs, self.workers
        heard = self.messages * (self.heard_by if on_valkey else workers - 1)
        us = {
            "connects": self.connects * costs.connect,
            "messages taken in": self.messages * taking_in(costs, self.messages / workers),
            "deliveries": self.deliveries * delivery(costs, 0),
            "hints heard": heard * costs.hear,
            "pings and pongs": 2 * self.connected / self.habits.ping * costs.write,
            "sweeps": workers * self.rooms_per_worker * costs.head,
        }
        return {what: amount / 1e6 for what, amount in us.items()}

    def lobby_cores(self) -> dict[str, float]:
        """What today's code adds: one room that all are in, and all workers know all people."""
        writes = min(self.turns, 1 / TOLD_TOGETHER) * self.connected
        us = {
            "presence shown in the lobby": writes * self.costs.write,
            "presence learnt": self.turns * self.workers * self.costs.learn,
            "hellos that list all": self.connects * self.connected * self.costs.online,
        }
        return {what: amount / 1e6 for what, amount in us.items()}

    def database_cores(self) -> dict[str, float]:
        costs = self.costs
        us = {
            "messages stored": self.messages * costs.store,
            "connects": self.connects * costs.connect_db,
            "sweeps": self.workers * self.rooms_per_worker * costs.head_db,
        }
        return {what: amount / 1e6 for what, amount in us.items()}

    @property
    def notify_cores(self) -> float:
        """Of PostgreSQL, if it is the bus."""
        each = self.costs.notify + self.costs.notify_each * self.workers
        return self.messages * each / 1e6

    @property
    def valkey_cores(self) -> float:
        each = self.costs.publish + self.costs.publish_each * (1 + self.heard_by)
        return self.messages * each / 1e6

    def databases(self, *, sweeping: bool = True) -> int:
        """PostgreSQL servers, each with a part of the rooms; those that stand by are not counted.

        Without sweeps: as if a sweep asked for what has changed, and not for every room.
        """
        parts = self.database_cores()
        cores = sum(parts.values()) - (0 if sweeping else parts["sweeps"])
        return max(1, math.ceil(cores / (DATABASE_CORES * BUSY)))

    @property
    def valkeys(self) -> int:
        """Valkey servers, one core each; at least two, so that one may fail."""
        return max(2, math.ceil(self.valkey_cores / BUSY))

    @property
    def machines(self) -> int:
        return max(2, math.ceil(self.workers / WORKERS_PER_MACHINE))


def workers_for_valkey(costs: Costs = MEASURED, share: float = 0.1) -> int:
    """Workers, all full, from which on NOTIFY takes so large a share of a PostgreSQL's cores."""
    workers = 1
    while Model(workers * SOCKETS_PER_WORKER, costs=costs).notify_cores < share * DATABASE_CORES:
        workers += 1
    return workers


def _table(title: str, text: str, rows: dict[str, list[str]]) -> Table:
    columns = [Column(f"{size:,} connected", str(size), plain) for size in SIZES]
    table = Table(title, text, columns)
    for name, cells in rows.items():
        table.rows.append(Row(name, dict(zip(map(str, SIZES), cells, strict=True))))
    return table


def assumed() -> Table:
    table = Table("What is assumed of people", "", [Column("value", "value", plain)])
    table.text = "Change them in `bench/costs.py`, and run it again."
    habits = Habits()
    for field in fields(habits):
        value = getattr(habits, field.name)
        table.rows.append(Row(HABITS[field.name], {"value": f"{value:g}"}))
    for kind in KINDS:
        name = f"rooms of {kind.members:,} that somebody is in, and their share of the messages"
        table.rows.append(Row(name, {"value": f"{kind.each:g}; {kind.share:.0%}"}))
    return table


def measured() -> Table:
    table = Table("What was measured", "", [Column("us of a core", "value", plain)])
    table.text = (
        "On one core of the machine below, in an earlier run and rounded; the first is not time "
        "but memory. In the run below connects, sweeps and full batches cost less, and messages "
        "and hints that come alone up to twice as much, as a core that mostly waits is slower."
    )
    costs = Costs()
    for field in fields(costs):
        value = getattr(costs, field.name)
        table.rows.append(Row(COSTS[field.name], {"value": f"{value:,g}"}))
    return table


def gathering() -> Table:
    """The measured points are the first rows of docs/performance.md."""
    table = Table(
        "What a delivery costs, by messages/s of the room",
        f"Modelled: {Costs().write:g} us for each write, which takes along what has come within "
        f"{PASS * 1000:g} ms, and {Costs().gathered:g} us for each message in it.",
        [Column("us, modelled", "model", small), Column("us, measured", "seen", small)],
    )
    for rate, seen in ((20, 12.8), (1000, 0.39), (6090, 0.158)):
        values = {"model": delivery(Costs(), rate), "seen": seen}
        table.rows.append(Row(f"{rate:,} messages/s", values))
    return table


def demand(models: list[Model]) -> Table:
    rows = {
        "people, of whom these are connected": [count(m.people) for m in models],
        "messages/s": [count(m.messages) for m in models],
        "deliveries of each": [small(m.reach) for m in models],
        "deliveries/s": [count(m.deliveries) for m in models],
        "Gbit/s to the clients": [small(m.deliveries * m.habits.octets * 8 / 1e9) for m in models],
        "connects/s, without a storm": [count(m.connects) for m in models],
        "GB stored each day": [count(m.people * m.habits.messages * ROW / 1e9) for m in models],
        "workers that hear a message (Valkey)": [small(m.heard_by) for m in models],
        "workers that hear it (PostgreSQL)": [count(m.workers - 1) for m in models],
        "rooms of a worker, in each sweep": [count(m.rooms_per_worker) for m in models],
    }
    return _table("What comes, at the peak", "By the assumptions above.", rows)


def cores(models: list[Model]) -> Table:
    rows: dict[str, list[str]] = {}
    for what, parts in (
        ("workers", [m.worker_cores() for m in models]),
        ("workers, today", [m.lobby_cores() for m in models]),
        ("PostgreSQL", [m.database_cores() for m in models]),
    ):
        for name in parts[0]:
            rows[f"{what}: {name}"] = [small(part[name]) for part in parts]
    rows["PostgreSQL: the bus, if it is there"] = [small(m.notify_cores) for m in models]
    rows["Valkey: the bus, if it is there"] = [small(m.valkey_cores) for m in models]
    rows["today: MB of a hello"] = [small(m.connected * ID / 1e6) for m in models]
    rows["today: Gbit/s of presence"] = [
        small(m.turns * m.connected * PRESENCE * 8 / 1e9) for m in models
    ]
    text = (
        'Cores at work, with the bus on Valkey. "Today": the lobby, which everybody is in, shows '
        "everybody who comes and goes, and a hello lists all who are there."
    )
    return _table("Cores, at the peak", text, rows)


def servers(models: list[Model]) -> Table:
    rows = {
        f"workers, of {SOCKETS_PER_WORKER:,} sockets": [count(m.workers) for m in models],
        "share of its core that a worker uses": [
            f"{sum(m.worker_cores().values()) / m.workers:.0%}" for m in models
        ],
        "GB of memory for sockets": [
            small(m.connected * m.costs.socket_kib / 2**20) for m in models
        ],
        f"machines of {MACHINE}, {WORKERS_PER_MACHINE} workers on each": [
            count(m.machines) for m in models
        ],
        f"PostgreSQL servers of {DATABASE_CORES} cores": [count(m.databases()) for m in models],
        "the same, if sweeps cost nothing": [count(m.databases(sweeping=False)) for m in models],
        "Valkey servers of one core": [count(m.valkeys) for m in models],
    }
    text = (
        f"PostgreSQL and Valkey at {BUSY:.0%} of their cores, without those that stand by; without "
        "what today's lobby adds. Over one PostgreSQL server needs code that is not there yet."
    )
    return _table("Servers", text, rows)


def output() -> str:
    """All tables, as Markdown, and from where on Valkey is needed."""
    models = [Model(size) for size in SIZES]
    tables = [
        assumed(), measured(), gathering(), demand(models), cores(models), servers(models)
    ]  # fmt: skip
    last = (
        f"NOTIFY takes a tenth of a PostgreSQL of {DATABASE_CORES} cores from "
        f"{workers_for_valkey()} full workers on.\n"
    )
    return "\n".join([*map(markdown, tables), last])


def main(words: Sequence[str] | None = None) -> None:
    """Print it; with ``--write`` put it into docs/scaling.md."""
    print_or_write("bench.capacity", __doc__ or "", output, words)


if __name__ == "__main__":
    main()
