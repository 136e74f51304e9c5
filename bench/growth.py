"""What grows with the number of workers, of rooms and of people online: the parts, one by one."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from urllib.parse import urlsplit

import psutil
import psycopg2

from bytechat import create_app
from bytechat.auth.schemas import Account
from bytechat.bus import Engine
from bytechat.bus.postgresql import CHANNEL, PostgresEngine
from bytechat.bus.valkey import ValkeyEngine
from bytechat.chat import frames, rooms
from bytechat.chat.hints import Change
from bytechat.chat.presence import Presence
from bytechat.extensions import db
from bytechat.storage import reading
from tests.support.databases import settings

from . import worlds
from .engines import postgresql_pid, valkey
from .load import family_cpu
from .setting import Bench
from .tables import Column, Row, Table, small

LISTENERS = (0, 1, 10, 50)
ROOMS = (100, 1000, 10_000)
ONLINE = (100, 1000, 10_000, 100_000)

#: Hints/s while it is measured what one costs: each is sent alone, as on a quiet evening.
HINT_RATE = 200

#: As a message of 100 characters has.
HINT = b"x" * 450

TOPIC = "room:1"


def growth(bench: Bench) -> list[Table]:
    """What a hint costs by its listeners, a sweep by its rooms, a hello by who is online."""
    bench.say("growth: a hint, by its listeners")
    url = bench.databases.fresh("postgresql")
    world = worlds.build(url, [[f"room{number}" for number in range(max(ROOMS))]])
    app = create_app(settings(url))
    with app.app_context():
        heard = _hints(bench)
        bench.say("growth: a sweep, by its rooms")
        swept = _sweeps(bench, list(world.rooms.values()))
        bench.say("growth: who is online")
        told = _online()
        db.engine.dispose()
    return [heard, swept, told]


def _hints(bench: Bench) -> Table:
    table = Table(
        "A hint, by how many workers hear it",
        f"us of the engine's CPU for each of {HINT_RATE} hints/s of {len(HINT)} bytes, each sent "
        "alone. On PostgreSQL all workers hear all hints; on Valkey those that have somebody of "
        "the room.",
        [Column(f"{number} listen", str(number), small) for number in LISTENERS],
    )
    pid = postgresql_pid(bench.databases)
    engine: Engine = PostgresEngine(db.engine)
    address = db.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    row = Row("PostgreSQL, NOTIFY")
    for number in LISTENERS:
        lines = [psycopg2.connect(address) for _ in range(number)]
        for line in lines:
            line.autocommit = True
            line.cursor().execute(f"LISTEN {CHANNEL}")
        row.values[str(number)] = _hint_cost(bench, engine, pid, [line.fileno() for line in lines])
        for line in lines:
            line.close()
    table.rows.append(row)
    row = Row("Valkey, PUBLISH")
    with valkey() as server:
        engine = ValkeyEngine(server.url, prefix="")
        where = urlsplit(server.url)
        for number in LISTENERS:
            sockets = [
                socket.create_connection((where.hostname, where.port)) for _ in range(number)
            ]
            for sock in sockets:
                sock.sendall(f"SUBSCRIBE {TOPIC}\r\n".encode())
            fds = [sock.fileno() for sock in sockets]
            row.values[str(number)] = _hint_cost(bench, engine, server.pid, fds)
            for sock in sockets:
                sock.close()
        engine.close()
    table.rows.append(row)
    return table


def _hint_cost(bench: Bench, engine: Engine, pid: int, listeners: list[int]) -> float:
    """Microseconds of the engine's CPU for each hint that so many sockets are sent."""
    root = psutil.Process(pid)
    count = int(bench.sizes.gentle * HINT_RATE)
    with _drained(listeners):
        engine.send([(TOPIC, HINT)])
        before, began = family_cpu(root), time.monotonic()
        for number in range(count):
            engine.send([(TOPIC, HINT)])
            time.sleep(max(0.0, began + number / HINT_RATE - time.monotonic()))
        time.sleep(0.1)
        return (family_cpu(root) - before) * 1e6 / count


@contextmanager
def _drained(sockets: list[int]) -> Iterator[None]:
    """Read them to nowhere, below their libraries, which would cost more than what is measured."""
    over = Event()

    def drain() -> None:
        poll = select.poll()
        for fd in sockets:
            poll.register(fd, select.POLLIN)
        while not over.is_set():
            for fd, _ in poll.poll(50):
                with socket.socket(fileno=fd) as sock:
                    sock.recv(65_536)
                    sock.detach()

    thread = Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _sweeps(bench: Bench, ids: list[int]) -> Table:
    """Heads of so many rooms, as each worker asks for them once a second."""
    table = Table(
        "A look at the heads, by how many rooms a worker has somebody in",
        "ms of CPU for one statement; each worker makes one each second.",
        [
            Column(f"{what}, {number:,} rooms", f"{what} {number}", small)
            for number in ROOMS
            for what in ("worker", "PostgreSQL")
        ],
    )
    root = psutil.Process(postgresql_pid(bench.databases))
    row = Row("one sweep")
    for number in ROOMS:
        times = max(5, 20_000 // number)

        def sweep(some: list[int] = ids[:number]) -> None:
            with reading() as connection:
                rooms.heads(connection, some)

        before = family_cpu(root)
        row.values[f"worker {number}"] = _cpu_ms(sweep, times)
        row.values[f"PostgreSQL {number}"] = (family_cpu(root) - before) * 1e3 / times
    table.rows.append(row)
    return table


def _online() -> Table:
    table = Table(
        "Who is online, by how many people share a room with somebody",
        "A hello lists all of them. Each worker learns of everybody who comes or goes anywhere.",
        [
            Column("hello, ms of CPU", "hello_ms", small),
            Column("hello, KB", "hello_kb", small),
            Column("learning of one, us", "learn_us", small),
        ],
    )
    for number in ONLINE:
        presence = Presence()
        changes = [Change(Account(1000 + n, f"person{n:06}"), [1]) for n in range(number)]
        learning = _cpu_ms(partial(presence.learn, "there", 0, 1, changes), 1)
        times = max(3, 100_000 // number)
        table.rows.append(
            Row(
                f"{number:,} online",
                {
                    "hello_ms": _cpu_ms(partial(_hello, presence), times),
                    "hello_kb": len(_hello(presence)) / 1000,
                    "learn_us": learning * 1e3 / number,
                },
            )
        )
    return table


def _hello(presence: Presence) -> bytes:
    """As a socket is greeted, but for its rooms."""
    hello = frames.Hello(
        protocol=1,
        user=Account(1, "person"),
        session=1,
        worker="here",
        rooms=[],
        online=presence.online([1]),
        limits=frames.Limits(text=4000, rate=0),
        heartbeat=25,
    )
    return frames.encode(hello)


def _cpu_ms(work: Callable[[], object], times: int) -> float:
    """Milliseconds of this process's CPU for one time."""
    before = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - before) * 1e3 / times
