"""The ways in which ByteChat is deployed, for tests that must hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from .databases import SECRET, Databases
from .server import Server, TwoServers
from .valkey import Valkey


@dataclass(frozen=True)
class Deployment:
    """A kind of database, so many workers for each server, so many servers, and a bus."""

    database: str
    workers: int = 1
    servers: int = 1
    valkey: bool = False

    def __str__(self) -> str:
        words = [self.database]
        words += [f"{self.workers} workers"] if self.workers > 1 else []
        words += [f"{self.servers} servers"] if self.servers > 1 else []
        return ", ".join(words) + (" on valkey" if self.valkey else "")


ALONE = [Deployment("sqlite"), Deployment("postgresql")]
TOGETHER = [
    Deployment("postgresql", workers=2),
    Deployment("postgresql", servers=2),
    Deployment("postgresql", workers=2, valkey=True),
    Deployment("postgresql", servers=2, valkey=True),
]

#: For what matters most, unless all are asked for.
USUAL_TOGETHER = [*ALONE, Deployment("postgresql", servers=2), TOGETHER[2]]
ALL = [*ALONE, Deployment("postgresql", valkey=True), *TOGETHER]


class Deployments:
    """Starts servers in any of these ways; each deployment is an installation of its own."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._number = 0

    @cached_property
    def valkey(self) -> Valkey:
        """One for all; it is there until the tests end."""
        return Valkey().start()

    @contextmanager
    def start(self, deployment: Deployment, **settings: str) -> Iterator[Server]:
        self._number += 1
        settings = {
            "WEB_CONCURRENCY": str(deployment.workers),
            # Those who share a Valkey are kept apart by their secrets.
            "JWT_SECRET_KEY": f"{SECRET}, number {self._number}",
            **({"BUS_URL": self.valkey.url} if deployment.valkey else {}),
            **settings,
        }
        kind = TwoServers if deployment.servers == 2 else Server
        with kind(self._databases.fresh(deployment.database), **settings) as server:
            yield server

    def close(self) -> None:
        if "valkey" in self.__dict__:
            self.valkey.stop()
