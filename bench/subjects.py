"""Who is measured: ByteChat on each database, the rivals, and a prototype if one is given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.databases import Databases

from . import engines, worlds
from .engines import Valkey
from .stands import Layout, Stand, free_port, process

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Subject(Protocol):
    """Something that can be put under load."""

    @property
    def name(self) -> str: ...

    @property
    def durable(self) -> bool:
        """Whether a message is in a database before it is passed on."""

    @property
    def gathers(self) -> bool:
        """Whether it may send several messages with one system call."""

    @property
    def one_room(self) -> bool:
        """Whether it knows a single room."""

    def stand(self, layout: Layout) -> AbstractContextManager[Stand]:
        """Start it for clients in these rooms. Raises NotMeasured."""


@dataclass
class ByteChat:
    """The product, on a fresh database of this kind for each stand."""

    kind: str
    databases: Databases
    workers: int = 1
    #: A Valkey for the bus, if it is not to be the database's own.
    bus: Valkey | None = None
    #: What the tables call it, where ByteChat is compared with itself.
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or f"ByteChat, {DATABASES[self.kind]}"

    durable = gathers = True
    one_room = False

    @contextmanager
    def stand(
        self, layout: Layout, *, rounds: int = 4, history: int = 0, **settings: str
    ) -> Iterator[Stand]:
        world = worlds.build(self.databases.fresh(self.kind), layout, rounds=rounds)
        if history:
            worlds.write_history(world, history)
        if self.bus:
            settings["BUS_URL"] = self.bus.url
        given = {"BCRYPT_ROUNDS": str(rounds), **settings}
        with worlds.bytechat(world, self.workers, **given) as stand:
            if self.kind == "postgresql":
                stand.engines["PostgreSQL"] = engines.postgresql_pid(self.databases)
            if self.bus:
                stand.engines["Valkey"] = self.bus.pid
            yield stand


@dataclass
class Prototype:
    """A module ``prototype`` with an ``app``, one room and no accounts, to be measured beside."""

    path: Path
    kind: str
    databases: Databases

    @property
    def name(self) -> str:
        return f"prototype, {DATABASES[self.kind]}"

    durable = gathers = one_room = True

    @contextmanager
    def stand(self, _layout: Layout) -> Iterator[Stand]:
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "1"]
        command += ["--backlog", "4096", "--worker-connections", "20000", "-b", f"127.0.0.1:{port}"]
        # A prototype hands this to SQLAlchemy as it is, for which "postgresql:" alone is psycopg 3.
        url = self.databases.empty(self.kind).replace("postgresql:", "postgresql+psycopg2:", 1)
        environ = {**os.environ, "DB": url}
        folder = self.path.parent.resolve()
        with process([*command, f"{self.path.stem}:app"], port, "/ws", folder, environ) as pids:
            yield Stand(
                port,
                pids,
                handshake=lambda _: ("/ws", ""),
                template=lambda _, text: worlds.SEND.format(room=1, text=text),
            )
