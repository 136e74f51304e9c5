"""The clock of a worker's connections: pings, silence, the end of tokens, unanswered closes."""

from __future__ import annotations

import time

from .closing import Code
from .connection import Connection
from .framing import PING
from .hub import Hub

#: Seconds between two looks at all connections; one look at 5,000 takes about 2 ms.
TICK = 0.25

#: A socket that was silent for this many ping intervals is gone: 60 s at the default of 25 s.
SILENT_INTERVALS = 2.4


def step(hub: Hub, ping_every: float) -> None:
    """Wait for the next tick and look at all connections; ``ping_every`` is in seconds, or 0."""
    time.sleep(TICK)
    moment, clock = time.monotonic(), time.time()
    for connection in hub.connections():
        look_after(connection, moment, clock, ping_every)


def look_after(connection: Connection, moment: float, clock: float, ping_every: float) -> None:
    """What is due for one connection (``moment`` is monotonic, ``clock`` of the epoch)."""
    if connection.overdue(moment):
        connection.abandon()
    elif clock >= connection.expires_at:
        connection.close(Code.TOKEN_ENDED, "the token has expired: sign in again")
    elif not ping_every:
        return
    elif moment - connection.heard_at > SILENT_INTERVALS * ping_every:
        connection.close(Code.GOING_AWAY, "nothing was heard")
    elif moment - max(connection.pinged_at, connection.heard_at) >= ping_every:
        connection.pinged_at = moment
        connection.push(PING)
