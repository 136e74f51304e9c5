"""The workers that share a database: which of them live, and who is with each.

PostgreSQL's clock is the one that all of them have, so all times here are the database's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, insert, literal, or_, select, text, update

from ..auth.schemas import Account
from ..models import Presence, Worker
from .hints import Change

#: Seconds without a beat after which a worker counts as gone, and its users with it.
SILENT = timedelta(seconds=12)

#: Seconds after which its rows are removed; until then it may come back to life.
DEAD = timedelta(seconds=60)

#: Seconds for which the others can read who has left a worker. Whoever has not looked for so long
#: was dead, and learns everything anew.
LEFT = 2 * DEAD

_note = text("""
    INSERT INTO presences (worker_id, user_id, username, rooms, version)
    SELECT :worker, user_id, username, rooms, :version
    FROM json_to_recordset(:changes) AS new (user_id bigint, username text, rooms text)
    ON CONFLICT (worker_id, user_id) DO UPDATE
    SET username = excluded.username, rooms = excluded.rooms, version = excluded.version
    """)


class State(NamedTuple):
    """A worker, as the others see it."""

    version: int
    sockets: int


def beat(db: Connection, worker: str, state: State) -> bool:
    """Say that the worker lives; False if its rows are not there (any more)."""
    done = db.execute(
        update(Worker)
        .where(Worker.id == worker)
        .values(beat_at=func.now(), sockets=state.sockets, version=state.version)
    )
    return done.rowcount == 1


def arrive(db: Connection, worker: str, state: State) -> None:
    """Make the worker known."""
    db.execute(
        insert(Worker).values(
            id=worker, beat_at=func.now(), sockets=state.sockets, version=state.version
        )
    )


def note(db: Connection, worker: str, version: int, changes: Iterable[Change]) -> None:
    """Write what has changed among the worker's users, under the version that this makes."""
    rows = [
        {
            "user_id": change.user.id,
            "username": change.user.username,
            "rooms": msgspec.json.encode(change.rooms).decode(),
        }
        for change in changes
    ]
    encoded = msgspec.json.encode(rows).decode()
    db.execute(_note, {"worker": worker, "version": version, "changes": encoded})


def living(db: Connection) -> dict[str, State]:
    """All workers that live, by their ids."""
    rows = db.execute(
        select(Worker.id, Worker.version, Worker.sockets).where(
            Worker.beat_at > func.now() - SILENT
        )
    )
    return {row.id: State(row.version, row.sockets) for row in rows}


def changes_since(db: Connection, worker: str, version: int) -> tuple[int, list[Change]]:
    """What has changed among a worker's users after a version, and the version that this makes."""
    rows = db.execute(
        select(Presence.user_id, Presence.username, Presence.rooms, Presence.version)
        .where(Presence.worker_id == worker, Presence.version > version)
        # Whoever knows nothing of a worker need not be told who has left it.
        .where(or_(literal(version > 0), Presence.rooms != "[]"))
        .order_by(Presence.version)
    ).all()
    changes = [
        Change(Account(row.user_id, row.username), msgspec.json.decode(row.rooms, type=list[int]))
        for row in rows
    ]
    return max([version, *(row.version for row in rows)]), changes


def forget_who_left(db: Connection, worker: str, version: int) -> None:
    """Remove those who had left the worker by then; to be called LEFT after that version."""
    db.execute(
        delete(Presence).where(
            Presence.worker_id == worker, Presence.version <= version, Presence.rooms == "[]"
        )
    )


def bury(db: Connection) -> None:
    """Remove what the dead have left; another worker that does so just now is not waited for."""
    dead = select(Worker.id).where(Worker.beat_at < func.now() - DEAD)
    db.execute(delete(Worker).where(Worker.id.in_(dead.with_for_update(skip_locked=True))))
