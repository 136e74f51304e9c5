"""What only a server with storage and accounts does: durable messages, logins, history."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

from . import drive, worlds
from .plan import Phase
from .scenarios import LOBBY, PATIENCE
from .setting import Bench, Results, row
from .stands import Layout, NotMeasured, Stand
from .subjects import Subject
from .tables import Column, Row, Table, count, milliseconds, plain

SENDERS = 50

#: Messages under way at open throttle.
WINDOW = 2000

#: How often a request is made, to know how long it takes.
TIMES = 40

REQUEST_SECONDS = 30

NO_RIVALS = "The rivals take no part: they store nothing, and have no accounts."


def ingest(bench: Bench) -> list[Table]:
    """Messages that are committed, and acked, from 50 senders in one room."""
    layout: Layout = [[LOBBY]] * SENDERS
    kinds = ["sampled"] * 2 + ["marked"] * (SENDERS - 2)
    cast = drive.Cast(kinds, [(n, LOBBY) for n in range(SENDERS)])

    def work(_subject: Subject, stand: Stand) -> Results:
        phases = [
            Phase("2000", bench.sizes.throttle, 2000, patience=PATIENCE),
            Phase("open", bench.sizes.throttle, window=WINDOW, patience=PATIENCE),
        ]
        return drive.run(drive.spec(stand, layout, cast), phases)

    prototypes = [subject for subject in bench.subjects if subject.one_room]
    steady = Table(
        f"Durable ingest, 2,000 messages/s from {SENDERS} senders",
        f"From sending a message to its ack, which comes after the commit. {NO_RIVALS}",
        [
            Column("acks/s", "acks_per_s", count),
            Column("ack p50", "ack_p50_ms", milliseconds),
            Column("ack p99", "ack_p99_ms", milliseconds, ratio=True),
        ],
    )
    fast = Table(
        f"Durable ingest, open throttle, {SENDERS} senders",
        f"{WINDOW:,} are under way, each to all {SENDERS}. {NO_RIVALS}",
        [
            Column("acks/s", "acks_per_s", count, ratio=True),
            Column("ack p50", "ack_p50_ms", milliseconds),
            Column("ack p99", "ack_p99_ms", milliseconds),
        ],
    )
    subjects: list[Subject] = [*bench.bytechat(), *prototypes]
    for subject, results, reason in bench.measure("ingest", subjects, layout, work):
        for table, phase in ((steady, "2000"), (fast, "open")):
            line = row(subject, results, phase, reason)
            if line.values and line.values["acks"] != line.values["sent"]:
                line.note = f"{line.values['acks']:,} acks of {line.values['sent']:,}"
            table.rows.append(line)
    return [steady, fast]


def logins(bench: Bench) -> list[Table]:
    """50 people sign in at once, with hashes of the cost that ByteChat has by default."""
    layout: Layout = [[LOBBY]] * bench.sizes.clients
    table = Table(
        f"{bench.sizes.logins} logins at once, beside a chat of {bench.sizes.clients:,}",
        f"20 messages/s; bcrypt of cost {ROUNDS}. Who is told to come again does. {NO_RIVALS}",
        [
            Column("chat p99 before", "p99_before", milliseconds),
            Column("chat p99 meanwhile", "p99_ms", milliseconds),
            Column("signed in", "in", plain),
            Column("the last after", "last", plain),
        ],
    )
    for subject in bench.bytechat()[:1]:
        bench.say(f"logins: {subject.name}")
        try:
            with subject.stand(layout, rounds=ROUNDS) as stand:
                table.rows.append(_storm(bench, subject, stand, layout))
        except NotMeasured as reason:
            table.rows.append(Row(subject.name, note=str(reason)))
    return [table]


#: bcrypt's cost in production.
ROUNDS = 12


def _storm(bench: Bench, subject: Subject, stand: Stand, layout: Layout) -> Row:
    took: list[float] = []
    threads = [
        threading.Thread(target=_sign_in, args=(stand.port, name, took), daemon=True)
        for name in stand.names[: bench.sizes.logins]
    ]

    def storm() -> None:
        for thread in threads:
            thread.start()

    phases = [
        Phase("calm", bench.sizes.gentle, 20, patience=PATIENCE),
        Phase("storm", bench.sizes.storm, 20, patience=PATIENCE),
    ]
    load = drive.spec(stand, layout, drive.crowd(layout, 10))
    results = drive.run(load, phases, {"storm": storm})
    for thread in threads:
        thread.join(REQUEST_SECONDS)
    line = row(subject, results, "storm")
    line.values["p99_before"] = results["calm"]["p99_ms"]
    line.values["in"] = f"{len(took)} of {len(threads)}"
    line.values["last"] = f"{max(took):.1f} s" if took else None
    return line


def _sign_in(port: int, name: str, took: list[float]) -> None:
    """Log in, again when told so; notes the seconds until it has worked."""
    began = time.monotonic()
    body = {"username": name, "password": worlds.PASSWORD}
    while time.monotonic() - began < REQUEST_SECONDS:
        url = f"http://127.0.0.1:{port}/login"
        answer = requests.post(
            url, json=body, headers={"Connection": "close"}, timeout=REQUEST_SECONDS
        )
        if answer.ok:
            took.append(time.monotonic() - began)
            return
        time.sleep(float(answer.headers.get("Retry-After", 1)))


def history(bench: Bench) -> list[Table]:
    """Reading in a room with a million messages, and in one with a hundredth of them."""
    most = bench.sizes.history
    layout: Layout = [[LOBBY]]
    table = Table(
        "Reading in a large room",
        f"The median and the slowest of {TIMES} requests, one after the other. {NO_RIVALS}",
        [Column(f"{title}", title, plain) for title, _ in _readings(most)],
    )
    table.columns.append(Column("sync frame of 500", "sync", plain))
    for subject in bench.bytechat():
        for number in (max(1_000, most // 100), most):
            name = f"{subject.name}, {number:,} messages"
            bench.say(f"history: {name}")
            try:
                with subject.stand(layout, history=number) as stand:
                    table.rows.append(Row(name, _read(stand, number)))
            except NotMeasured as reason:
                table.rows.append(Row(name, note=str(reason)))
    return [table]


def _readings(number: int) -> list[tuple[str, str]]:
    """What to read, and its path."""
    lobby = f"/rooms/{LOBBY}"
    return [
        ("newest 50", f"{lobby}/messages"),
        ("50 in the middle", f"{lobby}/messages?before={number // 2}"),
        ("200 in the middle", f"{lobby}/messages?limit=200&before={number // 2}"),
        ("500 changes", f"{lobby}/changes?since={number - 500}&limit=500"),
    ]


def _read(stand: Stand, number: int) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {stand.tokens[0]}"}
    values = {}
    with requests.Session() as session:
        for title, path in _readings(number):
            url = f"http://127.0.0.1:{stand.port}{path}"
            answer = session.get(url, headers=headers, timeout=REQUEST_SECONDS)
            if not answer.ok:
                values[title] = f"answers {answer.status_code}"
                continue
            values[title] = _timed(
                partial(session.get, url, headers=headers, timeout=REQUEST_SECONDS)
            )
    with connect(
        f"ws://127.0.0.1:{stand.port}/ws",
        additional_headers=headers,
        compression=None,
        max_size=None,
    ) as socket:
        hello = json.loads(socket.recv())
        room = next(room["id"] for room in hello["rooms"] if room["name"] == LOBBY)
        answered = _sync(socket, room, number - 500)
        values["sync"] = (
            _timed(lambda: _sync(socket, room, number - 500))
            if answered == 500
            else f"gives {answered}"
        )
    return values


def _sync(socket: ClientConnection, room: int, since: int) -> int | str:
    """Ask for everything after this rev; how many messages came, or the error's code."""
    got = 0
    while True:
        socket.send(json.dumps({"type": "sync", "room": room, "since": since}))
        answer: dict[str, Any] = {}
        while answer.get("type") not in ("sync", "error", "reset"):
            answer = json.loads(socket.recv(REQUEST_SECONDS))
        if answer["type"] != "sync":
            return str(answer.get("code", answer["type"]))
        got += len(answer["messages"])
        if not answer["more"]:
            return got
        since = answer["messages"][-1]["rev"]


def _timed(work: Callable[[], object]) -> str:
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e3)
    return f"{statistics.median(took):.1f} ms, at most {max(took):.1f} ms"
