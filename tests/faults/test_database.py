"""The database takes nothing, or says nothing: senders are told, and what was acked is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import requests
from sqlalchemy import make_url

from bytechat.client import Ack
from tests.support.databases import Databases
from tests.support.ledger import Ledger
from tests.support.people import PASSWORD, Frame, Person, Talk, unused_name
from tests.support.proxy import Proxy

from .conftest import Scene
from .crowd import wait_until

#: Messages that all have heard before it goes wrong again.
SOME = 20

#: Seconds for an answer that needs the database while it is silent. It waits twice, 5 s each: for a
#: connection and its first answer, or for the batch before its own. The rest is for busy machines.
REFUSED_MAX = 12.0

#: Seconds for an answer that needs nothing.
AT_ONCE = 1.0


class Sender:
    """Somebody with a plain socket, who sees how each message is answered."""

    def __init__(self, person: Person, ledger: Ledger) -> None:
        self.person = person
        self._ledger = ledger

    def send(self, talk: Talk, client_id: str, text: str) -> Frame:
        """Send something; its ack or its error."""
        self._ledger.sent(self.person.id, client_id, text)
        talk.send(type="send", room="lobby", text=text, client_id=client_id)
        answer = talk.next("ack", "error")
        assert answer["client_id"] == client_id
        if answer["type"] == "ack":
            self._ledger.acked(self.person.id, msgspec.convert(answer, Ack))
        return answer


def check_refusal(answer: Frame) -> None:
    """It may be sent again."""
    assert (answer["type"], answer["code"]) == ("error", "unavailable")
    assert answer["retry_after"] > 0


def test_a_full_disk_refuses_what_it_cannot_keep_and_keeps_what_was_acked(
    scene: Scene,
    databases: Databases,
    tmp_path: Path,
) -> None:
    full = tmp_path / "full"
    url = databases.fresh("sqlite")
    server = scene.serve(url, "gunicorn -c tests/faults/full_disk.py", DISK_IS_FULL=str(full))
    sender = Sender(Person(server), scene.ledger)
    text = "x" * 3000  # more than half a page
    with scene.crowd(scene.people(server)) as crowd, sender.person.talk() as talk:
        for _ in range(scene.size.rounds):
            crowd.hear(SOME)
            full.touch()
            while (answer := sender.send(talk, unused_name("big"), text))["type"] == "ack":
                pass  # some pages had room left
            check_refusal(answer)
            body = {"text": text, "client_id": unused_name("big")}
            scene.ledger.sent(sender.person.id, body["client_id"], text)
            refused = sender.person.post("/rooms/lobby/messages", body)
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert sender.person.history(), "reading goes on"
            assert talk.alive()
            full.unlink()
            assert sender.send(talk, answer["client_id"], text)["type"] == "ack"
        crowd.hear(SOME)
        crowd.finish()
    scene.ledger.check(url)


def test_a_database_that_accepts_and_never_answers_refuses_in_time_and_loses_nothing(
    scene: Scene,
    databases: Databases,
) -> None:
    url = databases.fresh("postgresql")
    address = make_url(url)
    with Proxy(f"{address.query['host']}/.s.PGSQL.5432") as proxy:
        through = address.set(host="127.0.0.1", port=proxy.port).difference_update_query(["host"])
        server = scene.serve(through.render_as_string(), DATABASE_TIMEOUT="1")
        sender = Sender(Person(server), scene.ledger)
        with (
            scene.crowd(scene.people(server)) as crowd,
            sender.person.talk() as talk,
            sender.person.talk() as idle,
        ):
            for _ in range(scene.size.rounds):
                crowd.hear(SOME)
                proxy.hold()
                client_id = unused_name("silence")
                check_refusal(sender.send(talk, client_id, "is anybody there?"))
                assert sender.person.get("/readyz").status_code == 503
                assert talk.alive()
                assert idle.alive()
                proxy.release()
                while sender.send(talk, client_id, "is anybody there?")["type"] != "ack":
                    pass
            crowd.hear(SOME)
            crowd.finish()
    scene.ledger.check(url)


def test_a_frozen_postgresql_is_an_outage_for_who_needs_it_and_for_nobody_else(
    scene: Scene, own_databases: Databases
) -> None:
    """With two workers, all timeouts as they are, and more requests than there are connections."""
    url = own_databases.fresh("postgresql")
    server = scene.serve(url)
    sender = Sender(Person(server), scene.ledger)
    alice = sender.person
    login = {"username": alice.name, "password": PASSWORD}

    def say() -> requests.Response:
        body = {"text": "is anybody there?", "client_id": unused_name("silence")}
        scene.ledger.sent(alice.id, body["client_id"], body["text"])
        return alice.post("/rooms/lobby/messages", body)

    asked: list[Callable[[], requests.Response]] = [
        lambda: alice.get("/profile"),
        lambda: alice.get("/readyz"),
        lambda: alice.post("/login", login),
        say,
    ]
    with (
        scene.crowd(scene.people(server)) as crowd,
        sender.person.talk() as talk,
        ThreadPoolExecutor(40) as pool,
    ):
        for _ in range(3 if scene.long else 1):
            crowd.hear(SOME)
            with own_databases.frozen_postgresql():
                began = time.monotonic()
                answers = [pool.submit(ask) for ask in asked * 10]
                for _ in range(5):
                    at = time.monotonic()
                    assert alice.get("/healthz").ok
                    assert talk.alive()
                    assert time.monotonic() - at < AT_ONCE
                for answered in answers:
                    answer = answered.result()
                    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                    assert "database" in answer.json()["detail"]
                seconds = time.monotonic() - began
                print(f"all were refused within {seconds:.3f} s")
                assert seconds < REFUSED_MAX
                check_refusal(sender.send(talk, unused_name("silence"), "is anybody there?"))
            assert wait_until(lambda: alice.get("/readyz").ok)
        crowd.hear(SOME)
        crowd.finish()
    scene.ledger.check(url)
