"""``python -m bench.simulate``: what can be tried with dice instead of with a hundred machines.

How evenly sockets spread, how many workers have somebody of a room, how long a storm takes. The
dice are the same each time, so docs/scaling.md has exactly what this prints.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

from bytechat.client.retry import FIRST_WAIT, LONGEST_WAIT

from . import report
from .tables import Column, Row, Table, count, markdown, small

SEED = 1

#: Connections that wait to be accepted (gunicorn.conf.py); one more is not answered.
BACKLOG = 4096

#: Seconds until a killed worker has been replaced.
RESTART_SECONDS = 2.0


def hashed(sockets: int, workers: int, dice: random.Random) -> list[int]:
    """Sockets of each worker, when a hash, or the kernel, decides for each socket alone."""
    found = Counter(int(dice.random() * workers) for _ in range(sockets))
    return [found[worker] for worker in range(workers)]


def least(sockets: int, workers: int, dice: random.Random) -> list[int]:
    """The same when the balancer takes the emptier one of two at random."""
    found = [0] * workers
    for _ in range(sockets):
        one, two = int(dice.random() * workers), int(dice.random() * workers)
        found[one if found[one] <= found[two] else two] += 1
    return found


def having(online: int, workers: int, dice: random.Random) -> int:
    """How many workers have somebody of a room, of which so many people are online."""
    return len({int(dice.random() * workers) for _ in range(online)})


def expected(online: float, workers: int) -> float:
    """The mean of ``having``: each worker has nobody with (1 - 1/workers) to the power of them."""
    return workers * (1 - math.pow(1 - 1 / workers, online))


def storm(
    sockets: int,
    workers: int,
    connect_ms: float,
    dice: random.Random,
    *,
    opens_after: float = 0.0,
) -> float:
    """Seconds until the last of them has a socket again.

    Each device waits as the clients do, and dials a worker at random. A worker takes one after the
    other, each for ``connect_ms`` of its core; who finds it closed, or ``BACKLOG`` waiting, tries
    again later.
    """
    free_at = [opens_after] * workers
    cost = connect_ms / 1000
    dials = [(_pause(FIRST_WAIT, dice), FIRST_WAIT) for _ in range(sockets)]
    heapq.heapify(dials)
    last = 0.0
    while dials:
        moment, step = heapq.heappop(dials)
        worker = int(dice.random() * workers)
        waiting = max(0.0, free_at[worker] - moment) / cost
        if moment < opens_after or waiting > BACKLOG:
            step = min(step * 2, LONGEST_WAIT)
            heapq.heappush(dials, (moment + _pause(step, dice), step))
            continue
        free_at[worker] = max(free_at[worker], moment) + cost
        last = max(last, free_at[worker])
    return last


def _pause(step: float, dice: random.Random) -> float:
    return step / 2 + dice.random() * step / 2


def spread_table() -> Table:
    dice = random.Random(SEED)  # noqa: S311 no secret
    table = Table(
        "How evenly sockets spread over workers",
        "By a hash of the connection (the kernel's SO_REUSEPORT, a balancer's hash), and by the "
        "emptier one of two picked at random. A worker refuses sockets when it is full, so the "
        "fullest one decides.",
        [
            Column("mean", "mean", count),
            Column("fullest by hash", "hash", _share),
            Column("fullest of two choices", "two", _share),
        ],
    )
    for sockets, workers in ((1000, 4), (10_000, 4), (100_000, 20)):
        mean = sockets / workers
        values = {
            "mean": mean,
            "hash": max(hashed(sockets, workers, dice)) / mean,
            "two": max(least(sockets, workers, dice)) / mean,
        }
        table.rows.append(Row(f"{sockets:,} over {workers}", values))
    return table


def _share(value: float) -> str:
    return f"{(value - 1) * 100:+.1f} %"


def rooms_table(workers: int = 100, online: float = 0.25) -> Table:
    dice = random.Random(SEED)  # noqa: S311 no secret
    table = Table(
        f"How many of {workers} workers have somebody of a room",
        f"{online:.0%} of its members are online. So many workers hear a message of the room on "
        "Valkey, and ask for the room's head each second; on PostgreSQL all of them hear it.",
        [
            Column("online", "online", count),
            Column("simulated", "seen", small),
            Column("by the formula", "mean", small),
        ],
    )
    for members in (2, 10, 100, 1000, 100_000):
        there = max(1, round(members * online))
        times = 200 if there < 1000 else 2
        seen = sum(having(there, workers, dice) for _ in range(times)) / times
        values = {"online": there, "seen": seen, "mean": expected(there, workers)}
        table.rows.append(Row(f"a room of {members:,}", values))
    return table


def storm_table(connect_ms: float = 2.6) -> Table:
    dice = random.Random(SEED)  # noqa: S311 no secret
    table = Table(
        "How long a reconnect storm takes",
        f"Until the last one has a socket, with {connect_ms:g} ms of a core for each, and a core "
        f"for each worker. The clients wait as they do; a killed worker is back after "
        f"{RESTART_SECONDS:g} s, and a balancer sends nobody to it before. PostgreSQL answers all.",
        [
            Column("one is killed", "one", _seconds),
            Column("all are killed", "all", _seconds),
        ],
    )
    for workers in (2, 10, 100):
        for each in (1000, 2500, 5000, 10_000):
            everybody = workers * each
            if everybody > 100_000:
                continue  # dice are slow, and nothing new comes of it
            values = {
                "one": storm(each, workers - 1, connect_ms, dice),
                "all": storm(everybody, workers, connect_ms, dice, opens_after=RESTART_SECONDS),
            }
            table.rows.append(Row(f"{workers} workers with {each:,} each", values))
    return table


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def output() -> str:
    """All tables, as Markdown."""
    return "\n".join(map(markdown, (spread_table(), rooms_table(), storm_table())))


def main(words: Sequence[str] | None = None) -> None:
    """Print it; with ``--write`` put it into docs/scaling.md."""
    print_or_write("bench.simulate", __doc__ or "", output, words)


def print_or_write(
    module: str, about: str, output: Callable[[], str], words: Sequence[str] | None
) -> None:
    """The command line of a script whose output is on the page."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--write", action="store_true", help="put it into docs/scaling.md instead of printing it"
    )
    if parser.parse_args(words).write:
        report.place(report.SCALING, module, output())
    else:
        print(output())


if __name__ == "__main__":
    main()
