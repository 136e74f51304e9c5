"""What tests ask a client for."""

from __future__ import annotations

import threading
from typing import TypeVar

from bytechat.client import Client, Event, Message

SECONDS = 10
TOKEN = "eyJ-the-secret-token"

E = TypeVar("E", bound=Event)


def take(client: Client, number: int) -> list[Message]:
    """The next changes; what else happens is passed over."""
    got: list[Message] = []
    while len(got) < number:
        event = client.receive(SECONDS)
        if isinstance(event, Message):
            got.append(event)
    return got


def wait_for(client: Client, kind: type[E]) -> E:
    """The next event of this kind."""
    while True:
        event = client.receive(SECONDS)
        if isinstance(event, kind):
            return event


def revs(messages: list[Message]) -> list[int]:
    return [m.rev for m in messages]


def threads_of_clients() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("bytechat-")}
