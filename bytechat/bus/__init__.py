"""The doorbell between workers: it says that there is news, and often brings it along.

It may lose, repeat and reorder what it carries. Whoever listens sees that by the numbers, and reads
the database; a sweep finds what nobody rang for. So nothing here is retried, and nothing is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bus import Bus, BusDown, Engine
from .local import LocalEngine

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

__all__ = ["Bus", "BusDown", "Engine", "LocalEngine", "engine_for"]


def engine_for(url: str, database: Database, installation: str) -> Engine:
    """What carries the bus: by its address, or without one whatever the database has.

    ``installation`` keeps those apart that share a server of Redis or Valkey.
    """
    if url:
        from .valkey import ValkeyEngine

        return ValkeyEngine(url, f"bytechat:{installation}:")
    if database.dialect.name == "postgresql":
        from .postgresql import PostgresEngine

        return PostgresEngine(database)
    return LocalEngine()
