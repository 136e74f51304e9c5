"""The bus between workers, on each of its engines: what all of them promise, and what none does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import sqlalchemy
from sqlalchemy import text

from bytechat import create_app
from bytechat.bus import Bus, BusDown, Engine, LocalEngine, engine_for
from bytechat.bus import bus as module
from bytechat.bus.postgresql import PAYLOAD_MAX, PostgresEngine
from bytechat.bus.valkey import ValkeyEngine
from bytechat.extensions import db

from ..support.databases import Databases, settings
from ..support.proxy import Proxy
from ..support.valkey import Valkey

SECONDS = 10.0

ENGINES = ["local", "postgresql", "valkey", "valkey cluster"]
#: Those that are reached over a socket, and so can be cut off.
REMOTE = ENGINES[1:]


class Town:
    """Engines of one kind, one for each worker, and ways to trouble what is behind them."""

    def __init__(self, kind: str, databases: Databases, stack: ExitStack) -> None:
        self.kind = kind
        self._stack = stack
        self._local = LocalEngine()
        if kind == "postgresql":
            with create_app(settings(databases.empty("postgresql"))).app_context():
                self.database = db.engine
            stack.callback(self.database.dispose)
        elif kind.startswith("valkey"):
            self.valkey = stack.enter_context(Valkey(cluster="cluster" in kind))

    def engine(self, installation: str = "one") -> Engine:
        if self.kind == "local":
            return self._local
        if self.kind == "postgresql":
            return PostgresEngine(self.database)
        return ValkeyEngine(self.valkey.url, f"bytechat:{installation}:")

    def worker(self, *topics: str, installation: str = "one") -> Ear:
        """A worker that follows these topics, as soon as it does."""
        ear = Ear(self.engine(installation), *topics)
        self._stack.callback(ear.bus.close)
        assert ear.restored.wait(SECONDS)
        return ear

    def cut(self) -> None:
        """End the connections of all that listen."""
        if self.kind == "postgresql":
            with self.database.connect() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
                    )
                )
        else:
            self.valkey.cut_subscribers()


class Ear:
    """A bus, and what it has heard."""

    def __init__(self, engine: Engine, *topics: str) -> None:
        self.heard: list[bytes] = []
        self.restored = threading.Event()
        self.bus = Bus(engine, self.heard.append, self.restored.set)
        for topic in topics:
            self.bus.follow(topic)
        self.bus.start()

    def has(self, *payloads: bytes) -> bool:
        """Whether it has heard these and no others, or does so soon."""
        return until(lambda: self.heard == list(payloads))


def until(done: Callable[[], bool], seconds: float = SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(params=ENGINES)
def town(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(request.param, databases, stack)


remote = pytest.mark.parametrize("town", REMOTE, indirect=True)


def test_what_is_published_reaches_whoever_follows_in_order(town: Town) -> None:
    alice, bob = town.worker("room:1"), town.worker("room:1")
    sent = [f'{{"n":{n},"text":"привет"}}'.encode() for n in range(50)]
    for payload in sent:
        alice.bus.publish("room:1", payload)
    assert bob.has(*sent)
    assert alice.has(*sent)  # the sender follows it too; hints say whose they are


def test_a_payload_of_the_largest_size_arrives(town: Town) -> None:
    alice, bob = town.worker(), town.worker("room:1")
    payload = b"x" * alice.bus.payload_max
    alice.bus.publish("room:1", payload)
    assert bob.has(payload)


@pytest.mark.parametrize("town", ["local", "valkey", "valkey cluster"], indirect=True)
def test_a_worker_is_not_bothered_with_topics_that_it_does_not_follow(town: Town) -> None:
    alice, bob = town.worker(), town.worker("room:1", "room:2")
    bob.bus.leave("room:2")
    bob.restored.clear()
    bob.bus.follow("room:3")  # when that stands the other one is left
    assert bob.restored.wait(SECONDS)
    alice.bus.publish("room:2", b"two")
    alice.bus.publish("room:1", b"one")
    assert bob.has(b"one")


def test_a_topic_that_is_followed_later_stands_when_it_is_said_to(town: Town) -> None:
    """Subscribe, then read: what is sent after ``restored`` is heard."""
    alice, bob = town.worker(), town.worker("room:1")
    for room in range(2, 12):
        bob.restored.clear()
        bob.bus.follow(f"room:{room}")
        if town.kind != "postgresql":  # where everybody follows everything
            assert bob.restored.wait(SECONDS)
        alice.bus.publish(f"room:{room}", b"%d" % room)
    assert bob.has(*(b"%d" % room for room in range(2, 12)))


@pytest.mark.parametrize("town", ["valkey", "valkey cluster"], indirect=True)
def test_two_installations_on_one_valkey_do_not_hear_each_other(town: Town) -> None:
    alice, stranger = town.worker(), town.worker("room:1", installation="another")
    bob = town.worker("room:1")
    alice.bus.publish("room:1", b"between us")
    assert bob.has(b"between us")
    assert stranger.heard == []


@remote
def test_a_line_that_was_cut_comes_back_and_says_so(town: Town) -> None:
    alice, bob = town.worker(), town.worker("room:1")
    bob.restored.clear()
    town.cut()
    assert bob.restored.wait(SECONDS)
    alice.bus.publish("room:1", b"again")
    assert bob.has(b"again")


@remote
def test_an_engine_that_is_away_fails_nobody_and_is_noticed(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = town.engine()

    def refuse() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(engine, "subscribe", refuse)
    ear = Ear(engine, "room:1")
    ear.bus.publish("room:1", b"hello")
    assert until(lambda: "the bus is away" in caplog.text)
    with pytest.raises(BusDown):
        ear.bus.check()
    monkeypatch.undo()
    assert ear.restored.wait(SECONDS)
    ear.bus.check()
    ear.bus.close()


def test_a_payload_that_arrives_in_pieces_does_not_break_the_line() -> None:
    with Valkey() as valkey, Proxy(valkey.port) as wire:
        far = Ear(ValkeyEngine(f"valkey://127.0.0.1:{wire.port}", "bytechat:one:"), "room:1")
        near = Ear(ValkeyEngine(valkey.url, "bytechat:one:"))
        assert far.restored.wait(SECONDS)
        assert near.restored.wait(SECONDS)
        far.restored.clear()
        wire.chunk, wire.pause = 1_400, 0.01
        sent = [b"%d" % number * 3_000 for number in range(9)]
        for payload in sent:
            near.bus.publish("room:1", payload)
        assert far.has(*sent)
        assert not far.restored.is_set(), "it was cut, and came back"
        far.bus.close()
        near.bus.close()


@pytest.mark.parametrize("cluster", [False, True], ids=["one", "cluster"])
def test_a_valkey_may_come_after_the_worker(cluster: bool) -> None:
    valkey = Valkey(cluster=cluster)
    ear = Ear(ValkeyEngine(valkey.url, "bytechat:one:"), "room:1")
    assert until(lambda: ear.bus._broken)
    with valkey:
        assert ear.restored.wait(SECONDS)
        ear.bus.publish("room:1", b"hello")
        assert ear.has(b"hello")
        ear.bus.close()


@pytest.mark.parametrize("town", ["valkey"], indirect=True)
def test_a_valkey_that_never_answers_is_told_from_a_silent_one(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bytechat.bus import valkey

    monkeypatch.setattr(valkey, "SILENT_SECONDS", 0.2)
    ear = town.worker("room:1")
    time.sleep(1)  # silent for five times as long: it was asked, and has answered
    ear.bus.check()
    monkeypatch.setattr(valkey, "TIMEOUT_SECONDS", 0.3)
    ear.restored.clear()
    town.valkey.freeze()
    assert until(lambda: ear.bus._broken)
    with pytest.raises(BusDown):
        ear.bus.check()
    town.valkey.thaw()
    assert ear.restored.wait(SECONDS)
    ear.bus.check()


def test_nothing_is_published_to_nobody() -> None:
    engine = LocalEngine()
    alone = [engine.alone]
    lines = [engine.subscribe(), engine.subscribe()]
    alone.append(engine.alone)
    lines[0].close()
    assert [*alone, engine.alone] == [True, False, True]


def test_what_waits_for_an_engine_that_is_away_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE", 3)
    bus = Bus(LocalEngine(), print, print)
    for n in range(5):
        bus.publish("all", b"%d" % n)
    assert [payload for _, payload in bus._outgoing] == [b"2", b"3", b"4"]


def test_a_payload_that_cannot_be_read_does_not_end_the_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = []

    def receive(payload: bytes) -> None:
        if payload == b"bad":
            raise ValueError
        heard.append(payload)

    engine = LocalEngine()
    stands = threading.Event()
    bus = Bus(engine, receive, stands.set)
    bus.follow("all")
    bus.start()
    assert stands.wait(SECONDS)
    engine.send([("all", b"bad"), ("all", b"good")])
    assert until(lambda: heard == [b"good"])
    assert "could not be read" in caplog.text
    bus.close()


def test_a_notification_has_room_for_what_is_promised(databases: Databases) -> None:
    """PostgreSQL refuses 8,000 bytes."""
    assert PAYLOAD_MAX < 8_000


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost", ValkeyEngine),
        ("valkeys://:secret@localhost:6380/0", ValkeyEngine),
        ("", LocalEngine),
    ],
)
def test_the_engine_is_chosen_by_its_address(url: str, kind: type) -> None:
    assert type(engine_for(url, sqlalchemy.create_engine("sqlite://"), "one")) is kind


def test_postgresql_is_its_own_bus() -> None:
    database = sqlalchemy.create_engine("postgresql+psycopg2://localhost/none")
    assert type(engine_for("", database, "one")) is PostgresEngine
