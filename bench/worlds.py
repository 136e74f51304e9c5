"""ByteChat for the load: a database with people, rooms and history in it, and the server on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import bcrypt
from sqlalchemy import Connection, Table, func, insert, literal, select, update
from sqlalchemy import cast as sql_cast

from bytechat import create_app
from bytechat.auth import accounts, tokens
from bytechat.extensions import db
from bytechat.models import LOBBY, Member, Message, Room, User, UserSession, now
from bytechat.storage import transaction
from tests.support.databases import ROOT, SECRET, settings

from .stands import Layout, Stand, free_port, process

PASSWORD = "correct horse"  # noqa: S105 nobody's

#: Limits that one machine with all the clients would run into; 0 turns them off.
UNLIMITED = {
    "PING_EVERY": "0",  # no other frames while bytes are counted
    "TEXT_MAX": "40000",  # characters
    "WORKER_CONNECTIONS": "12000",
    "MESSAGE_RATE": "0",
    "MESSAGE_BURST": "0",
    "SOCKETS_PER_USER": "0",
    "LOGIN_RATE": "0",
    "REGISTER_RATE": "0",
}

SEND = '{{"type":"send","room":{room},"client_id":"<stamp>","text":"{text}"}}'


@dataclass
class World:
    """A database with people who are signed in, each in the rooms of the layout."""

    url: str
    #: By number, as the layout has them.
    tokens: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    #: Ids by the names of the layout.
    rooms: dict[str, int] = field(default_factory=dict)


def build(url: str, layout: Layout, *, rounds: int = 4) -> World:
    """Fill a migrated database: the rows of a first account and of the lobby, many times over."""
    world = World(url)
    app = create_app(settings(url))
    with app.app_context():
        first = accounts.register("first", PASSWORD, password_min=6, rounds=4)
        expires_at = now() + timedelta(days=1)
        tokens.open_session(first.id, expires_at)
        with transaction() as connection:
            _people(connection, world, len(layout), rounds)
            sessions = _sign_in(connection, world, expires_at)
            _rooms(connection, world, layout)
        world.tokens = [tokens.issue(*session, expires_at) for session in sessions]
        db.engine.dispose()
    return world


def _row(connection: Connection, table: type[Any]) -> dict[str, Any]:
    """A row of the table, as one to make others like it, whatever columns there will be."""
    columns: Table = table.__table__
    row = dict(connection.execute(select(*columns.c).limit(1)).one()._mapping)  # noqa: SLF001
    return {name: value for name, value in row.items() if name != "id"}


def _people(connection: Connection, world: World, count: int, rounds: int) -> None:
    password_hash = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(rounds)).decode()
    one = {**_row(connection, User), "password_hash": password_hash}
    world.names = [f"person{number:05}" for number in range(count)]
    connection.execute(insert(User), [{**one, "username": name} for name in world.names])


def _sign_in(
    connection: Connection, world: World, expires_at: datetime
) -> list[tuple[int, int, str]]:
    """A session for each, in the order of the people: the user's id, its own, and its token's."""
    one = {**_row(connection, UserSession), "expires_at": expires_at}
    users = connection.scalars(
        select(User.id).where(User.username.in_(world.names)).order_by(User.username)
    ).all()
    connection.execute(
        insert(UserSession), [{**one, "user_id": user, "jti": str(uuid4())} for user in users]
    )
    rows = connection.execute(
        select(UserSession.user_id, UserSession.id, UserSession.jti).where(
            UserSession.user_id.in_(users)
        )
    )
    sessions = {row.user_id: (row.user_id, row.id, str(row.jti)) for row in rows}
    return [sessions[user] for user in users]


def _rooms(connection: Connection, world: World, layout: Layout) -> None:
    users = connection.scalars(
        select(User.id).where(User.username.in_(world.names)).order_by(User.username)
    ).all()
    lobby = _row(connection, Room)
    names = sorted({name for rooms in layout for name in rooms} - {LOBBY})
    if names:
        connection.execute(insert(Room), [{**lobby, "name": name} for name in names])
    for row in connection.execute(select(Room.id, Room.name).where(Room.name.in_([LOBBY, *names]))):
        world.rooms[row.name] = row.id
    one = _row(connection, Member)
    members = [
        {**one, "user_id": user, "room_id": world.rooms[name]}
        for user, rooms in zip(users, layout, strict=True)
        for name in {*rooms, LOBBY}  # which every account is in
    ]
    connection.execute(insert(Member), members)


def write_history(world: World, count: int) -> None:
    """So many messages in the lobby, by its first member."""
    app = create_app(settings(world.url))
    with app.app_context(), transaction() as connection:
        if connection.dialect.name == "postgresql":
            # It takes longer than a statement of ByteChat may, even without looking up each author.
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        lobby = world.rooms[LOBBY]
        author = connection.scalar(select(func.min(User.id)))
        numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
        numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < count))
        columns = {
            "room_id": literal(lobby),
            "seq": numbers.c.n,
            "rev": numbers.c.n,
            "user_id": literal(author),
            "kind": literal("text"),
            "text": literal("Message ") + sql_cast(numbers.c.n, Message.text.type) + " x" * 40,
            "created_at": literal(now(), Message.created_at.type),
        }
        labelled = [value.label(name) for name, value in columns.items()]
        connection.execute(insert(Message).from_select(list(columns), select(*labelled)))
        connection.execute(update(Room).where(Room.id == lobby).values(head=count))
    with app.app_context():
        db.engine.dispose()


@contextmanager
def bytechat(world: World, workers: int = 1, **changed: str) -> Iterator[Stand]:
    """ByteChat on this world, as ``make run`` starts it, but for UNLIMITED.

    Each worker is a server of its own, as on so many machines: the load then decides who is where.
    """
    environ = {
        **os.environ,
        **UNLIMITED,
        "DATABASE_URL": world.url,
        "JWT_SECRET_KEY": SECRET,
        "WEB_CONCURRENCY": "1",
        "HOST": "127.0.0.1",
        **changed,
    }
    command = [sys.executable, "-m", "gunicorn"]
    probe = f"/ws?token={world.tokens[0]}"
    ports = [free_port() for _ in range(workers)]
    with ExitStack() as servers:
        pids = [
            servers.enter_context(
                process(command, port, probe, ROOT, {**environ, "PORT": str(port)})
            )
            for port in ports
        ]
        yield Stand(
            ports[0],
            [pid for each in pids for pid in each],
            other_ports=ports[1:],
            handshake=lambda n: ("/ws", f"Authorization: Bearer {world.tokens[n]}\r\n"),
            names=world.names,
            tokens=world.tokens,
            template=lambda room, text: SEND.format(room=world.rooms[room], text=text),
        )
