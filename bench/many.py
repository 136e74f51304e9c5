"""Several workers: what a second one brings and costs, what the bus does, and their sudden end."""

from __future__ import annotations

from . import drive
from .engines import Valkey, valkey
from .plan import Phase
from .scenarios import CPU_EACH, DELIVERED, LOBBY, P50, PATIENCE, SENDERS, WINDOW
from .setting import Bench, Results, row
from .stands import Layout, Stand
from .subjects import ByteChat, Subject
from .tables import Column, Row, Table, count, milliseconds, plain, small

#: Messages/s in the table of latencies.
RATES = (1, 100, 1000)

P99 = Column("p99", "p99_ms", milliseconds)

ON_POSTGRESQL = "All on PostgreSQL; each worker is a server of its own, as on so many machines."


def _workers(bench: Bench, number: int, bus: Valkey | None = None) -> ByteChat:
    """So many of them on PostgreSQL, which is the bus too if there is no other."""
    words = "one worker" if number == 1 else f"{number} workers"
    label = f"{words}, bus on {'Valkey' if bus else 'PostgreSQL'}"
    return ByteChat("postgresql", bench.databases, number, bus, label)


def workers(bench: Bench) -> list[Table]:
    """Two workers against one: CPU per delivery, and the most deliveries/s, with each bus."""
    clients = bench.sizes.clients
    layout: Layout = [[LOBBY]] * clients

    def work(_subject: Subject, stand: Stand) -> Results:
        phases = [
            Phase("20", bench.sizes.gentle, 20, patience=5),
            Phase("1000", bench.sizes.throttle, 1000, patience=PATIENCE),
            Phase("open", bench.sizes.throttle, window=WINDOW, patience=PATIENCE),
        ]
        return drive.run(drive.spec(stand, layout, drive.crowd(layout, SENDERS)), phases)

    room = f"A room of {clients:,} over its workers"
    shares = [
        Column("cores of the workers", "cpu_share", small),
        Column("of the load", "load_share", small),
    ]
    busy = f"{ON_POSTGRESQL} The cores are shared with the load and with PostgreSQL."
    tables = [
        Table(f"{room}, 20 messages/s", ON_POSTGRESQL, [CPU_EACH, P50, P99]),
        Table(f"{room}, 1,000 messages/s", busy, [DELIVERED, CPU_EACH, P50, P99, *shares]),
        Table(
            f"{room}, open throttle",
            f"{busy} {WINDOW:,} messages are under way.",
            [DELIVERED, CPU_EACH, Column("messages/s", "sent_per_s", count), P50, *shares],
        ),
    ]
    with valkey() as server:
        subjects = [_workers(bench, 1), _workers(bench, 2), _workers(bench, 2, server)]
        found = bench.measure("workers", subjects, layout, work)
    for table, phase in zip(tables, ("20", "1000", "open"), strict=True):
        table.rows = [row(subject, results, phase, reason) for subject, results, reason in found]
    connect = Table(
        f"Connecting {clients:,} to a room of {clients:,}",
        "ms of CPU for each; everybody is told of everybody who comes.",
        [Column("workers", "cpu_ms_each", small), Column("PostgreSQL", "PostgreSQL", small)],
    )
    for subject, results, reason in found:
        seen = results.get("connect", {})
        values = {**seen, **seen.get("cpu_ms_by_engine", {})}
        connect.rows.append(Row(subject.name, values, reason))
    return [connect, *tables]


def hints(bench: Bench) -> list[Table]:
    """From a sender at one worker to a reader at the other: how long, and what it costs whom."""
    # They go to the workers in turn: who speaks is at the first, and who reads at the second.
    layout: Layout = [[LOBBY]] * (2 * SENDERS)
    kinds = ["marked", "sampled"] * SENDERS
    cast = drive.Cast(kinds, [(2 * n, LOBBY) for n in range(SENDERS)])

    def work(_subject: Subject, stand: Stand) -> Results:
        phases = [
            Phase(str(rate), bench.sizes.seconds / 2, rate, patience=PATIENCE) for rate in RATES
        ]
        return drive.run(drive.spec(stand, layout, cast), phases)

    late = Table(
        "From a sender at one worker to a reader at another",
        f"{ON_POSTGRESQL} {SENDERS} speak at one and {SENDERS} read at the other; the first row is "
        f"one worker that has them all. Each rate for {bench.sizes.seconds / 2:g} s.",
        [
            Column(f"{name}, {rate:,}/s", f"{key} {rate}", milliseconds)
            for rate in RATES
            for name, key in (("p50", "p50_ms"), ("p99", "p99_ms"))
        ],
    )
    costs = [
        Table(
            f"What a message costs, {rate:,} messages/s",
            "us of CPU for each message, as the system has noted it for all processes of each. A "
            "worker that is alone tells nobody; with the bus on Valkey, PostgreSQL only stores.",
            [
                Column("sender's worker", "first", small),
                Column("reader's worker", "second", small),
                Column("PostgreSQL", "PostgreSQL", small),
                Column("Valkey", "Valkey", small),
            ],
        )
        for rate in RATES[1:]
    ]
    with valkey() as server:
        subjects = [_workers(bench, number, bus) for number in (1, 2) for bus in (None, server)]
        found = bench.measure("hints", subjects, layout, work)
    for subject, results, reason in found:
        line = row(subject, results, str(RATES[-1]), reason)
        late.rows.append(Row(line.name, _by_rate(results), line.note))
        for rate, table in zip(RATES[1:], costs, strict=True):
            table.rows.append(Row(line.name, _by_process(results.get(str(rate))), line.note))
    return [late, *costs]


def _by_rate(results: Results) -> dict[str, float | None]:
    """The latencies of all phases, each under its own key."""
    return {
        f"{key} {rate}": results[str(rate)][key]
        for rate in RATES
        if str(rate) in results
        for key in ("p50_ms", "p99_ms")
    }


def _by_process(result: drive.Result | None) -> dict[str, float | None]:
    if not result:
        return {}
    each = dict(zip(("first", "second"), result["cpu_us_by_worker"], strict=False))
    return {**each, **result["cpu_us_by_engine"]}


#: Seconds after which a storm is given up.
STORM_PATIENCE = 120.0


def storm(bench: Bench) -> list[Table]:
    """5,000 people over two workers; one worker is killed, then both: until all are back."""
    layout: Layout = [[LOBBY]] * bench.sizes.storm_clients
    kinds = ["sampled"] * len(layout)
    cast = drive.Cast(kinds, [(n, LOBBY) for n in range(SENDERS)])

    def work(_subject: Subject, stand: Stand) -> Results:
        phases = [Phase(whom, 0, patience=STORM_PATIENCE) for whom in ("one", "all")]
        return drive.run(drive.spec(stand, layout, cast), phases, module="bench.storm")

    table = Table(
        f"{len(layout):,} people in one room over two workers, which are killed (SIGKILL)",
        "5 messages/s all the while. Everybody comes back with the back-off of the clients (0.25 "
        "to 0.5 s, then twice as long each time), to either worker, and asks for what was said "
        "meanwhile. The seconds are from the kill; a master starts a new worker at once.",
        [
            Column("lost their socket", "lost", count),
            Column("half are complete", "half_s", seconds),
            Column("all are back", "back_s", seconds),
            Column("all are complete", "complete_s", seconds),
            Column("CPU s of the workers", "cpu_s", small),
            Column("of the engines", "engines_s", small),
            Column("syncs refused", "refused", plain),
            Column("said meanwhile", "said", count),
            Column("lack a message", "missing", plain),
            Column("MB sent to them", "megabytes", count),
        ],
    )
    with valkey() as server:
        subjects = [_workers(bench, 2), _workers(bench, 2, server)]
        found = bench.measure("storm", subjects, layout, work)
    for whom, words in (("one", "one is killed"), ("all", "both are killed")):
        for subject, results, reason in found:
            values = results.get(whom, {})
            late = "" if values.get("complete") else f"not all within {STORM_PATIENCE:g} s"
            table.rows.append(Row(f"{subject.name}: {words}", values, reason or late))
    return [table]


def seconds(value: float) -> str:
    """With one decimal."""
    return f"{value:.1f} s"
