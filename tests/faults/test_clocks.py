"""Two servers on one database whose clocks differ: by five seconds nobody sees it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.people import Person
from tests.support.server import Server

from .buses import Bus
from .conftest import Scene

#: Seconds within which a socket is closed after its token was revoked on another server.
CLOSED_MAX = 2.0


def two_servers(scene: Scene, bus: Bus, ahead: float) -> tuple[Server, Server]:
    """The clock of the second one is so many seconds ahead."""
    right = scene.serve(bus.database_url, WEB_CONCURRENCY="1", **bus.settings)
    wrong = scene.serve(
        bus.database_url,
        "gunicorn tests.faults.ahead:app",
        WEB_CONCURRENCY="1",
        CLOCK_AHEAD=str(ahead),
        **bus.settings,
    )
    return right, wrong


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return read


def test_clocks_five_seconds_apart_are_seen_by_nobody(scene: Scene, bus: Bus) -> None:
    servers = two_servers(scene, bus, ahead=5)
    with scene.crowd(scene.people(*servers), rate=30) as crowd:
        for here, there in (servers, servers[::-1]):
            alice = Person(here)
            check_tokens(alice, there)
            check_revocation(alice, there)
            with bus.away():
                alice.token = alice.sign_in()
                check_revocation(alice, there)
        crowd.hear(5)
        crowd.finish()
    scene.ledger.check(bus.database_url)
    history = crowd.talkers[0].person.history()
    assert [m["seq"] for m in history] == sorted(m["seq"] for m in history)
    times = [m["created_at"] for m in history]
    assert times != sorted(times), "the clocks are the same"


def check_tokens(person: Person, there: Server) -> None:
    """A token that was made just now is good elsewhere at once, over HTTP and for a socket."""
    assert person.at(there).get("/profile").status_code == 200
    with person.at(there).talk() as talk:
        assert talk.alive()


def check_revocation(person: Person, there: Server) -> None:
    """Who signs out here is signed out there, and their socket there is closed."""
    with person.at(there).talk() as talk:
        assert person.post("/logout").status_code == 200
        began = time.monotonic()
        assert talk.closed() == 4401
        assert time.monotonic() - began < CLOSED_MAX
    assert person.at(there).get("/profile").json()["code"] == "token_revoked"


def test_a_token_from_a_clock_a_minute_ahead_is_refused_and_shakes_nothing(
    scene: Scene, bus: Bus
) -> None:
    right, wrong = two_servers(scene, bus, ahead=60)
    early = Person(wrong)
    assert claims(early.token)["iat"] > time.time() + 50
    refused = early.at(right).get("/profile")
    assert refused.status_code == 401
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "invalid_token"
    with pytest.raises(InvalidStatus) as handshake:
        early.at(right).talk()
    assert handshake.value.response.status_code == 401
    late = Person(right)
    assert late.at(wrong).get("/profile").status_code == 200
    with scene.crowd([late, early], rate=20) as crowd:
        crowd.hear(10)
        crowd.finish()
    scene.ledger.check(bus.database_url)
