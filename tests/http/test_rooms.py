"""Rooms: how many are in one is counted, and big ones not for every socket that opens."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from bytechat.chat import rooms
from bytechat.errors import TokenRevoked
from bytechat.extensions import db
from bytechat.storage import reading

from ..conftest import sign_in


def members(app: Flask, crowds: rooms.Crowds) -> int:
    with app.app_context(), reading() as connection:
        account, (lobby,) = rooms.admitted_by(connection, 1, 1, "jti", crowds)
    assert (account.username, lobby.name) == ("alice", "lobby")
    return lobby.members


def test_the_members_of_a_small_room_are_counted_each_time(app: Flask, client: FlaskClient) -> None:
    crowds = rooms.Crowds()
    for count, name in enumerate(("alice", "bob", "carol"), start=1):
        sign_in(client, name)
        assert members(app, crowds) == count


def test_a_crowd_is_counted_once_a_second_at_most(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(rooms, "monotonic", lambda: clock[0])
    monkeypatch.setattr(rooms, "CROWD", 2)
    crowds = rooms.Crowds()
    for name in ("alice", "bob"):
        sign_in(client, name)
    assert members(app, crowds) == 2
    sign_in(client, "carol")
    clock[0] += rooms.CROWD_SECONDS - 0.01
    assert members(app, crowds) == 2
    clock[0] += 0.02
    assert members(app, crowds) == 3


def test_who_is_in_no_room_is_let_in_all_the_same(app: Flask, client: FlaskClient) -> None:
    sign_in(client, "alice")
    with app.app_context(), db.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM members")
    with app.app_context(), reading() as connection:
        account, joined = rooms.admitted_by(connection, 1, 1, "jti", rooms.Crowds())
        assert (account.username, joined) == ("alice", [])
        with pytest.raises(TokenRevoked):
            rooms.admitted_by(connection, 99, 1, "jti", rooms.Crowds())


def test_a_single_read_takes_no_transaction(app: Flask) -> None:
    """On PostgreSQL it would be two more ways to the server and back."""
    with app.app_context():
        engine = db.engine
        said: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *call: said.append(call[2]))
        with reading() as connection:
            connection.exec_driver_sql("SELECT 1")
            raw = connection.connection.dbapi_connection
            assert raw is not None
            if engine.dialect.name == "postgresql":
                assert raw.autocommit
            else:
                assert not raw.in_transaction
        assert said == ["SELECT 1"]
