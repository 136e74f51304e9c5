"""Two workers on one PostgreSQL: what each learns of the other, with the bus and without it.

Nothing runs by itself here: each step of a worker is called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from math import inf
from typing import Any

import msgspec
import pytest
from flask import Flask
from sqlalchemy import func, insert, select, text, update

from bytechat import create_app
from bytechat.auth import tokens
from bytechat.auth.schemas import Account
from bytechat.chat import hints, neighbours, presence, workers
from bytechat.chat.frames import MessageFrame
from bytechat.chat.hints import News
from bytechat.chat.neighbours import Neighbours
from bytechat.chat.runtime import Runtime
from bytechat.extensions import db
from bytechat.models import Presence, RevokedToken, Worker, now
from bytechat.realtime.closing import Code
from bytechat.storage import transaction

from ..support.databases import Databases, settings
from ..unit.test_pulse import Peer

ALICE, BOB, CAROL = Account(1, "alice"), Account(2, "bob"), Account(3, "carol")
LOBBY = 1


class Colleague:
    """A worker, of which only what it has with the others is looked at."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.runtime: Runtime = app.extensions["bytechat.runtime"]
        self.mind: Neighbours = self.runtime.neighbours

    @property
    def presence(self) -> presence.Presence:
        return self.mind.presence

    def tell(self) -> list[bytes]:
        """Its turn to tell who has come and gone; what it sent over the bus."""
        self.mind.presence_step()
        return self.sent()

    def sent(self) -> list[bytes]:
        """What waits to be sent."""
        outgoing = self.mind.bus._outgoing
        payloads = [payload for _topic, payload in outgoing]
        outgoing.clear()
        return payloads

    def hear(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.mind._receive(payload)

    def sweep(self) -> None:
        with self.app.app_context():
            self.mind.sweep()

    def socket(self, account: Account) -> Guest:
        guest = Guest(account)
        self.runtime.hub.join(guest, {LOBBY: 0})
        return guest


class Guest(Peer):
    """A socket that notes what it was sent."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self.owner = account.id
        self.token = f"token of {account.username}"


@pytest.fixture
def make_colleague(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Colleague]]:
    monkeypatch.setattr(neighbours, "PRESENCE_SECONDS", 0.0)
    monkeypatch.setattr(presence, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(neighbours, "OUTAGE_SECONDS", inf)  # steps here are not a second apart
    url = databases.fresh("postgresql")
    apps: list[Flask] = []

    def make() -> Colleague:
        apps.append(create_app(settings(url)))
        return Colleague(apps[-1])

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def one(make_colleague: Callable[[], Colleague]) -> Colleague:
    return make_colleague()


@pytest.fixture
def other(make_colleague: Callable[[], Colleague]) -> Colleague:
    return make_colleague()


def in_the_database(worker: Colleague, *statements: Any) -> None:
    with worker.app.app_context(), transaction() as connection:
        for statement in statements:
            connection.execute(statement)


def age(worker: Colleague, silent: timedelta) -> None:
    """Let it have been silent for this long."""
    in_the_database(worker, update(Worker).values(beat_at=func.now() - silent))


def test_who_is_online_at_one_worker_is_known_to_the_other_by_the_bus(
    one: Colleague, other: Colleague
) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    other.hear(one.tell())
    assert other.presence.online([LOBBY]) == [ALICE.id]
    one.presence.depart(ALICE)
    other.hear(one.tell())
    assert other.presence.online([LOBBY]) == []


def test_and_without_it_by_the_sweep(one: Colleague, other: Colleague) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    one.tell()
    other.sweep()
    assert other.presence.online([LOBBY]) == [ALICE.id]
    one.presence.depart(ALICE)
    one.tell()
    other.sweep()
    assert other.presence.online([LOBBY]) == []


def test_a_hint_that_was_lost_makes_the_worker_look(one: Colleague, other: Colleague) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    one.tell()  # lost
    one.presence.arrive(BOB, [LOBBY])
    other.hear(one.tell())
    assert other.presence.online([LOBBY]) == []  # not the half of it
    assert other.mind._sweep_now.is_set()
    other.sweep()
    assert sorted(other.presence.online([LOBBY])) == [ALICE.id, BOB.id]


CUT_LINES = text("""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE query = 'LISTEN bytechat' AND datname = current_database()
    """)


def test_a_line_that_was_cut_makes_the_worker_look(one: Colleague) -> None:
    """What was sent before it stood again, nobody has heard."""
    one.mind.start()
    assert one.mind._sweep_now.wait(10)
    one.mind._sweep_now.clear()
    in_the_database(one, CUT_LINES)
    assert one.mind._sweep_now.wait(10)
    one.mind.bus.close()
    in_the_database(one, CUT_LINES)  # its thread would wait for news, some seconds


def test_hints_that_come_again_or_late_change_nothing(one: Colleague, other: Colleague) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    first = one.tell()
    one.presence.depart(ALICE)
    second = one.tell()
    other.hear(first + second + first)
    assert other.presence.online([LOBBY]) == []


def test_what_is_too_much_for_the_bus_is_read(
    one: Colleague, other: Colleague, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one.mind.bus._engine, "payload_max", 100)
    for number in range(1, 20):
        one.presence.arrive(Account(number, f"user{number}"), [LOBBY])
    [payload] = one.tell()
    assert len(payload) <= 100
    other.hear([payload])
    assert other.mind._sweep_now.is_set()
    other.sweep()
    assert len(other.presence.online([LOBBY])) == 19


def test_the_users_of_a_worker_that_has_died_go_when_its_heartbeat_has_run_out(
    one: Colleague, other: Colleague
) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    one.tell()
    age(one, workers.SILENT - timedelta(seconds=2))
    other.sweep()
    assert other.presence.online([LOBBY]) == [ALICE.id]
    age(one, workers.SILENT + timedelta(seconds=1))
    other.sweep()
    assert other.presence.online([LOBBY]) == []


def test_nobody_is_given_up_when_the_database_was_away_from_all(
    one: Colleague, other: Colleague, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    one.tell()
    other.sweep()
    monkeypatch.undo()
    other.mind._read_at -= neighbours.OUTAGE_SECONDS
    age(one, workers.SILENT + timedelta(seconds=1))
    other.sweep()
    assert other.presence.online([LOBBY]) == [ALICE.id]
    other.mind._calm_at = 0.0  # it had time to beat
    other.sweep()
    assert other.presence.online([LOBBY]) == []


def test_a_version_is_not_used_again_when_it_is_not_known_whether_it_was_written(
    one: Colleague, other: Colleague, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    one.tell()
    one.presence.arrive(BOB, [LOBBY])
    with monkeypatch.context() as outage:
        outage.setattr(one.presence, "told", lambda _: 1 / 0)  # the answer to the commit is lost
        with pytest.raises(ZeroDivisionError):
            one.tell()
    other.sweep()
    one.presence.arrive(CAROL, [LOBBY])
    one.tell()
    other.sweep()
    assert sorted(other.presence.online([LOBBY])) == [ALICE.id, BOB.id, CAROL.id]


def test_who_has_left_while_a_worker_was_given_up_is_gone(one: Colleague, other: Colleague) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    one.presence.arrive(BOB, [LOBBY])
    one.tell()
    other.sweep()
    age(one, workers.DEAD + timedelta(seconds=1))
    other.tell()  # buries it
    one.presence.depart(ALICE)
    one.tell()
    other.sweep()
    assert other.presence.online([LOBBY]) == [BOB.id]


def test_a_worker_that_was_given_up_and_lives_is_believed_again(
    one: Colleague, other: Colleague
) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    one.tell()
    age(one, workers.DEAD + timedelta(seconds=1))
    other.tell()  # buries it
    with one.app.app_context(), transaction() as connection:
        assert connection.scalar(select(func.count()).select_from(Presence)) == 0
    other.sweep()
    one.mind._beat_at = 0.0
    one.tell()
    other.sweep()
    assert other.presence.online([LOBBY]) == [ALICE.id]


def test_who_has_left_is_forgotten_when_all_could_read_it(
    one: Colleague, other: Colleague, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each guest is somebody new: the table of a worker that lives for months must not grow."""
    monkeypatch.setattr(neighbours, "LEFT", timedelta(seconds=0))

    def rows() -> int:
        with one.app.app_context(), transaction() as connection:
            return connection.scalar(select(func.count()).select_from(Presence)) or 0

    one.presence.arrive(ALICE, [LOBBY])
    one.presence.arrive(BOB, [LOBBY])
    one.tell()
    one.presence.depart(BOB)
    one.tell()
    assert rows() == 2, "the others have had no time"
    one.mind._beat_at = 0.0
    one.tell()
    assert rows() == 1
    other.sweep()
    assert other.presence.online([LOBBY]) == [ALICE.id]


def test_a_worker_that_was_given_up_learns_who_has_left_meanwhile(
    one: Colleague, other: Colleague, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "LEFT", timedelta(seconds=0))
    one.tell()
    other.presence.arrive(ALICE, [LOBBY])
    other.presence.arrive(BOB, [LOBBY])
    other.tell()
    one.sweep()
    age(one, workers.DEAD + timedelta(seconds=1))
    other.presence.depart(BOB)
    for _ in range(2):  # it buries the one that is silent, and forgets
        other.mind._beat_at = 0.0
        other.tell()
    one.mind._beat_at = 0.0
    one.tell()
    one.sweep()
    assert one.presence.online([LOBBY]) == [ALICE.id]


def test_a_worker_beats_although_nobody_comes_or_goes(one: Colleague) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    one.tell()
    age(one, timedelta(seconds=30))
    one.tell()  # not due yet
    with one.app.app_context(), transaction() as connection:
        assert one.mind._name not in workers.living(connection)
    one.mind._beat_at = time.monotonic() - neighbours.BEAT_SECONDS
    assert one.tell() == []
    with one.app.app_context(), transaction() as connection:
        assert workers.living(connection)[one.mind._name].version == 1


def test_what_the_database_has_refused_is_told_later(
    one: Colleague, other: Colleague, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.presence.arrive(ALICE, [LOBBY])
    with monkeypatch.context() as outage:
        outage.setattr(workers, "note", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.tell()
    assert one.sent() == []
    other.hear(one.tell())
    other.sweep()
    assert other.presence.online([LOBBY]) == [ALICE.id]


def test_the_people_of_the_room_are_shown_who_comes_and_goes(
    one: Colleague, other: Colleague
) -> None:
    bob = other.socket(BOB)
    one.presence.arrive(ALICE, [LOBBY])
    other.hear(one.tell())
    other.tell()
    other.runtime.hub.step()
    [shown] = bob.done
    assert isinstance(shown, bytes)
    assert b'{"type":"presence","user":{"id":1,"username":"alice"},"online":true}' in shown


def test_nobody_is_shown_their_own_coming(one: Colleague) -> None:
    alice, bob = one.socket(ALICE), one.socket(BOB)
    one.presence.arrive(ALICE, [LOBBY])
    one.tell()
    one.runtime.hub.step()
    assert alice.done == []
    assert len(bob.done) == 1


def test_a_crowd_that_comes_is_shown_in_one_piece(one: Colleague) -> None:
    bob = one.socket(BOB)
    for number in range(10, 11 + neighbours.FEW):
        one.presence.arrive(Account(number, f"user{number}"), [LOBBY])
    one.tell()
    one.runtime.hub.step()
    [shown] = bob.done
    assert isinstance(shown, bytes)
    assert shown.count(b'"presence"') == neighbours.FEW + 1


def test_what_is_said_in_turns_in_two_rooms_is_told_in_one_hint_for_each(one: Colleague) -> None:
    one.mind.sockets = {"another": 1}
    said = [
        MessageFrame(10 * rev + room, room, rev, rev, ALICE, "text", "hi", now())
        for rev in range(1, 6)
        for room in (2, 1)
    ]
    one.runtime._publish(said)
    told = [hints.decode(payload) for payload in one.sent()]
    assert [(hint.room, hint.rev, len(hint.frames)) for hint in told if isinstance(hint, News)] == [
        (1, 5, 5),
        (2, 5, 5),
    ]


def test_typing_is_shown_on_the_other_worker_but_not_to_oneself(
    one: Colleague, other: Colleague
) -> None:
    alice, alice_there, bob = one.socket(ALICE), other.socket(ALICE), other.socket(BOB)
    one.mind.tell_typing(LOBBY, ALICE)
    other.hear(one.sent())
    for worker in (one, other):
        if worker.runtime.hub._ring.is_set():
            worker.runtime.hub.step()
    assert (alice.done, alice_there.done) == ([], [])
    [shown] = bob.done
    assert isinstance(shown, bytes)
    assert b'{"type":"typing","room":1,"user":{"id":1,"username":"alice"}}' in shown


def test_a_worker_does_not_act_on_its_own_hints(one: Colleague) -> None:
    bob = one.socket(BOB)
    one.mind.tell_revoked({"token of bob"}, disabled=False)
    one.hear(one.sent())
    assert bob.done == []


@pytest.mark.parametrize("way", ["bus", "sweep"])
def test_a_token_that_was_revoked_elsewhere_closes_its_sockets(
    one: Colleague, other: Colleague, way: str
) -> None:
    alice, bob = other.socket(ALICE), other.socket(BOB)
    row = {"revoked_at": now(), "expires_at": now() + timedelta(hours=1)}
    in_the_database(one, insert(RevokedToken).values(jti=alice.token, **row))
    with one.app.app_context():
        tokens.token_revoked.send(one.app, jtis={alice.token}, disabled=False)
    if way == "bus":
        other.hear(one.sent())
    else:
        other.sweep()
    assert alice.done == [Code.TOKEN_ENDED]
    assert bob.done == []


def test_hints_of_a_version_to_come_are_no_reason_to_stop(one: Colleague) -> None:
    with pytest.raises(msgspec.DecodeError):
        one.hear([b'{"type":"later","worker":"x"}'])  # the bus notes it and goes on
