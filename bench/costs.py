"""What the capacity model starts from: what people do, as assumed; what it costs, as measured.

Other machines and other people: change it here, and run ``python -m bench.capacity`` again.
"""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400


@dataclass(frozen=True)
class Kind:
    """Rooms of a size: how many of them somebody is in, and their share of all messages."""

    members: int
    each: float
    share: float


KINDS = (Kind(2, 10, 0.60), Kind(10, 5, 0.30), Kind(100, 2, 0.09), Kind(10_000, 0.5, 0.01))


@dataclass(frozen=True)
class Habits:
    """What is assumed of people; the texts are what the page calls them."""

    messages: float = 40
    online: float = 0.25
    peak: float = 3
    session: float = 1800
    seen: float = 0.5
    ping: float = 25
    octets: float = 310


HABITS = {
    "messages": "messages of each person and day, connected or not",
    "online": "share of the people who are connected at the peak",
    "peak": "times the day's mean, at the peak",
    "session": "seconds that a socket lasts",
    "seen": "share of comings and goings that are shown: not back within 10 s",
    "ping": "seconds between pings",
    "octets": "bytes of a message to a member",
}


@dataclass(frozen=True)
class Costs:
    """What was measured, rounded; us of one core, but for what says otherwise."""

    socket_kib: float = 15.1
    connect: float = 2600
    connect_db: float = 600
    write: float = 12
    gathered: float = 0.1
    take_in: float = 1100
    batched: float = 70
    store: float = 700
    hear: float = 180
    notify: float = 200
    notify_each: float = 15
    publish: float = 60
    publish_each: float = 3
    head: float = 6
    head_db: float = 2
    online: float = 0.03
    learn: float = 10


COSTS = {
    "socket_kib": "a socket that is open, KiB",
    "connect": "a connect, in the worker",
    "connect_db": "the same in PostgreSQL",
    "write": "a write to a socket: a delivery, if nothing is gathered",
    "gathered": "each further message of the same write",
    "take_in": "a message that comes alone, in the worker: checked, committed, acked",
    "batched": "the same in a full batch",
    "store": "a message that comes alone, in PostgreSQL",
    "hear": "a hint that is heard, in the worker",
    "notify": "a hint, in PostgreSQL",
    "notify_each": "the same for each worker that listens",
    "publish": "a hint, in Valkey",
    "publish_each": "the same for each worker that follows the room",
    "head": "a room's head in a sweep, in the worker",
    "head_db": "the same in PostgreSQL",
    "online": "a hello, for each person who is online in its rooms",
    "learn": "somebody's coming or going, in each worker",
}

#: A worker holds more, but could not take them all back within 15 s: see the storms.
SOCKETS_PER_WORKER = 5000

#: Of a machine; a worker uses one core, the rest is the system's and the proxy's.
WORKERS_PER_MACHINE = 12
MACHINE = "16 cores, 32 GB"

#: Share of their cores that servers should need at the peak, and cores of a PostgreSQL.
BUSY = 0.5
DATABASE_CORES = 32

#: Seconds that a pass over a busy room takes, in which messages gather; and seconds of a commit.
PASS = 0.03
COMMIT = 0.005

#: Bytes of a presence frame, of an id in a hello, of a stored message with its indexes.
PRESENCE, ID, ROW = 75, 7, 450

#: Comings and goings that are told together: all of half a second.
TOLD_TOGETHER = 0.5

#: What docs/scaling.md is worked out with.
ASSUMED = Habits()
MEASURED = Costs()
