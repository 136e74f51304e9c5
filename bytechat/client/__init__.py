"""A client for ByteChat, for bots, tests and benchmarks: docs/client.md is its guide.

It runs on plain threads, and imports nothing of the server.
"""

from __future__ import annotations

from .cache import Cache
from .client import Client
from .errors import (
    ClientBug,
    ClientError,
    Closed,
    Forbidden,
    GaveUp,
    Refused,
    SignInAgain,
    Unreachable,
)
from .events import Connected, Disconnected, Event, Reset, RoomChanged
from .outbox import Sent
from .shapes import Ack, Hello, Limits, Message, Page, Reaction, Room, User

__all__ = [
    "Ack",
    "Cache",
    "Client",
    "ClientBug",
    "ClientError",
    "Closed",
    "Connected",
    "Disconnected",
    "Event",
    "Forbidden",
    "GaveUp",
    "Hello",
    "Limits",
    "Message",
    "Page",
    "Reaction",
    "Refused",
    "Reset",
    "Room",
    "RoomChanged",
    "Sent",
    "SignInAgain",
    "Unreachable",
    "User",
]
