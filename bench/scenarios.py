"""Fan-out: one large room, a larger one, many rooms, pairs; and a few who do not read."""

from __future__ import annotations

from collections.abc import Callable

from . import drive
from .plan import Phase
from .setting import Bench, Results, row
from .stands import Layout, Stand
from .subjects import Subject
from .tables import Column, Row, Table, count, milliseconds, plain, small

#: Senders in a room; each is a member like the others.
SENDERS = 10

#: Messages under way at open throttle: more than a server can gather in one go.
WINDOW = 4000

#: The same for a server that sends each alone, for which this is a second's work.
ALONE_WINDOW = 100

#: Seconds to wait for a rival that is behind, and for ByteChat.
RIVAL_PATIENCE = 1.5
PATIENCE = 20.0

P50 = Column("p50", "p50_ms", milliseconds)
P99 = Column("p99", "p99_ms", milliseconds, ratio=True)
DELIVERED = Column("deliveries/s", "deliveries_per_s", count, ratio=True)
CPU_EACH = Column("CPU us per delivery", "cpu_us_each", small, ratio=True)

LOBBY = "lobby"


def _phase(name: str, bench: Bench, subject: Subject, rate: float, seconds: float = 0) -> Phase:
    """A phase at this rate, which is short for rivals."""
    if subject.durable:
        return Phase(name, seconds or bench.sizes.seconds, rate, patience=PATIENCE)
    return Phase(name, bench.sizes.rival_seconds, rate, patience=RIVAL_PATIENCE)


def _throttle(bench: Bench, subject: Subject) -> Phase:
    window = WINDOW if subject.gathers else ALONE_WINDOW
    seconds = bench.sizes.throttle / (1 if subject.durable else 2)
    return Phase("open", seconds, window=window, patience=5)


def room(bench: Bench) -> list[Table]:
    """One room of 1,000: 20, 1,000 and 3,000 messages/s, and as many as it takes."""
    clients = bench.sizes.clients
    layout: Layout = [[LOBBY]] * clients

    def work(subject: Subject, stand: Stand) -> Results:
        phases = [
            Phase("gentle", bench.sizes.gentle, 20, patience=5),
            _throttle(bench, subject),
            *([_phase("3000", bench, subject, 3000)] if subject.durable else []),
            _phase("1000", bench, subject, 1000),  # the last, as it leaves the rivals far behind
        ]
        load = drive.spec(stand, layout, drive.crowd(layout, SENDERS))
        return drive.run(load, phases)

    found = bench.measure("one room", bench.subjects, layout, work)
    people = f"One room of {clients:,}"
    tables = [
        Table(
            f"{people}, 20 messages/s",
            "Nobody is busy: what one delivery costs the server, and how long it takes.",
            [CPU_EACH, P50, P99],
        ),
        Table(
            f"{people}, 1,000 messages/s",
            f"ByteChat for {bench.sizes.seconds:g} s; rivals for {bench.sizes.rival_seconds:g} s, "
            f"and {RIVAL_PATIENCE:g} s to catch up.",
            [DELIVERED, P50, P99],
        ),
        Table(
            f"{people}, 3,000 messages/s",
            "Only what keeps up with 1,000 takes part.",
            [DELIVERED, P50, P99],
        ),
        Table(
            f"{people}, open throttle",
            f"As fast as the server delivers: {WINDOW:,} messages are under way, or {ALONE_WINDOW} "
            "where each is sent alone, which is a second's work there.",
            [DELIVERED, CPU_EACH, Column("messages/s", "sent_per_s", count), P50],
        ),
    ]
    for table, phase in zip(tables, ("gentle", "1000", "3000", "open"), strict=True):
        for subject, results, reason in found:
            if subject.durable or phase != "3000":
                table.rows.append(row(subject, results, phase, reason))
    return tables


def crowd(bench: Bench) -> list[Table]:
    """One room of 5,000: connecting, holding, and 500 messages/s."""
    clients = bench.sizes.crowd
    layout: Layout = [[LOBBY]] * clients

    def work(subject: Subject, stand: Stand) -> Results:
        load = drive.spec(stand, layout, drive.crowd(layout, SENDERS))
        return drive.run(load, [_phase("500", bench, subject, 500, bench.sizes.seconds / 2)])

    found = bench.measure("a crowd", bench.subjects, layout, work)
    connect = Table(
        f"Connecting {clients:,} clients",
        "ByteChat checks a token and reads the user's rooms; the rivals let everybody in.",
        [
            Column("CPU ms per connection", "cpu_ms_each", small, ratio=True),
            Column("seconds in all", "seconds", small),
        ],
    )
    idle = Table(
        f"{clients:,} idle clients",
        "Resident memory of the serving processes, by what it has grown.",
        [Column("KiB per socket", "kib_each", small, ratio=True)],
    )
    busy = Table(f"One room of {clients:,}, 500 messages/s", "", [DELIVERED, P50, P99, CPU_EACH])
    busy.text = f"{clients * 500:,} deliveries/s are owed."
    for subject, results, reason in found:
        for table in (connect, idle):
            table.rows.append(Row(subject.name, results.get("connect", {}), reason))
        busy.rows.append(row(subject, results, "500", reason))
    return [connect, idle, busy]


#: Rooms of a client, as steps from its own number: a room then has members of every other room.
STEPS = (0, 1, 3, 7, 12, 20, 30, 44, 65, 80)


def rooms(bench: Bench) -> list[Table]:
    """100 rooms of 100, where everybody is in ten."""
    clients, number = bench.sizes.clients, bench.sizes.rooms
    layout = [[f"room{(n + step) % number}" for step in STEPS] for n in range(clients)]
    kinds = ["marked"] * number + ["sampled"] * drive.SAMPLES
    kinds += ["marked"] * (clients - len(kinds))
    cast = drive.Cast(kinds, [(n, layout[n][0]) for n in range(number)])
    title = f"{number} rooms of {clients * len(STEPS) // number}, each client in {len(STEPS)}"
    return _many(bench, title, layout, cast, rate=200, window=100)


def pairs(bench: Bench) -> list[Table]:
    """500 pairs: the cost is in taking a message in, not in fanning it out."""
    number = bench.sizes.pairs
    layout = [[f"pair{n // 2}"] for n in range(2 * number)]
    kinds = ["marked", "marked"] * number
    for n in range(drive.SAMPLES):
        kinds[2 * n + 1] = "sampled"
    cast = drive.Cast(kinds, [(2 * n, layout[2 * n][0]) for n in range(number)])
    return _many(bench, f"{number} pairs", layout, cast, rate=500, window=4)


def _many(
    bench: Bench, title: str, layout: Layout, cast: drive.Cast, *, rate: float, window: int
) -> list[Table]:
    def work(_subject: Subject, stand: Stand) -> Results:
        phases = [
            Phase("steady", bench.sizes.gentle, rate, patience=5),
            Phase("open", bench.sizes.gentle, window=window, patience=2),
        ]
        return drive.run(drive.spec(stand, layout, cast), phases)

    subjects = [subject for subject in bench.subjects if not subject.one_room]
    found = bench.measure(title, subjects, layout, work)
    steady = Table(f"{title}, {rate:,.0f} messages/s", "", [CPU_EACH, P50, P99])
    steady.text = "All rooms together."
    fast = Table(f"{title}, open throttle", "As fast as the server delivers.", [])
    fast.columns = [DELIVERED, Column("messages/s", "sent_per_s", count), CPU_EACH, P50]
    for subject, results, reason in found:
        steady.rows.append(row(subject, results, "steady", reason))
        fast.rows.append(row(subject, results, "open", reason))
    return [steady, fast]


#: Characters of a text, so that who does not read is soon megabytes behind: the kernel keeps up to
#: 4 MB for each, and only then has the server anything to decide.
LONG = 32_000


def slow(bench: Bench) -> list[Table]:
    """10 of 1,000 stop reading: the others must not notice, and the 10 are told why (4408)."""
    clients, stalled = bench.sizes.clients, bench.sizes.stalled
    rate = 25_000 // clients
    layout: Layout = [[LOBBY]] * clients

    def work(subject: Subject, stand: Stand) -> Results:
        # Long enough for ByteChat to close them, and not so long that it has given them up: they
        # have 10 s to find out why.
        trouble = bench.sizes.stall if subject.durable else bench.sizes.stall * 2 / 3
        phases = [
            Phase("all read", bench.sizes.gentle, rate, patience=2),
            Phase("stalled", trouble, rate, patience=2, stall=True),
        ]
        cast = drive.crowd(layout, SENDERS, stalled=stalled)
        return drive.run(drive.spec(stand, layout, cast, LONG), phases)

    table = Table(
        f"{stalled} stalled readers among {clients:,}",
        f"{rate} messages/s of {LONG:,} characters. The latencies are the other clients'.",
        [
            Column("p99, all read", "p99_before", milliseconds),
            Column("p99, some stalled", "p99_ms", milliseconds, ratio=True),
            Column("the slow ones are closed with", "closes", plain),
        ],
    )
    for subject, results, reason in bench.measure("slow readers", bench.subjects, layout, work):
        line = row(subject, results, "stalled", reason)
        if "all read" in results and "stalled" in results:
            line.values["p99_before"] = results["all read"]["p99_ms"]
            closes = results["stalled"]["stalled_closes"]
            line.values["closes"] = ", ".join(
                f"{number} x {_close(int(code))}" for code, number in closes.items()
            )
        table.rows.append(line)
    return [table]


def _close(code: int) -> str:
    """A close code in words, if it is none (RFC 6455, section 7.4.2)."""
    if not code:
        return "not closed"
    # What stands where a frame should begin, after a part of another was left out.
    return str(code) if 1000 <= code < 5000 else "a broken stream"


Scenario = Callable[[Bench], list[Table]]
