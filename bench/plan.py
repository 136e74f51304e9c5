"""What a load does: who connects, who speaks, and in which phases. Sent as JSON to its process."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Self

import msgspec


@dataclass
class Socket:
    """A socket to open. ``kind`` is one of ``clients.KINDS``; ``headers`` are whole lines."""

    path: str
    kind: str
    rooms: list[str]
    headers: str = ""


@dataclass
class Sender:
    """Who speaks: a marked or sampled socket, by its number; ``template`` has ``<stamp>`` in it."""

    client: int
    room: str
    template: str


@dataclass
class Phase:
    """``rate`` is messages/s of all senders.

    With ``window`` it is as fast as the server delivers: so many messages of its rooms may be on
    their way to each sender.

    After ``seconds`` the load waits up to ``patience`` seconds for what is owed.
    """

    name: str
    seconds: float
    rate: float = 0
    window: int = 0
    patience: float = 10
    stall: bool = False


@dataclass
class Spec:
    """``ports`` are of one server or of several: clients are spread over them in turn.

    ``pids`` are the servers' processes, whose CPU and memory are read from the system; ``engines``
    those at the root of what serves them, by name: a database, a bus.
    """

    ports: list[int]
    pids: list[int]
    clients: list[Socket]
    senders: list[Sender] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    #: The first frame of every client, if the server's protocol wants one.
    greeting: str = ""
    engines: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return msgspec.json.encode(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> Self:
        return msgspec.json.decode(text, type=cls)
