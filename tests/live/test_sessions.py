"""The ends of sessions reach the open sockets: everywhere, and those of a disabled account."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus

from tests.live.conftest import check_log
from tests.support.databases import Databases, flask
from tests.support.people import PASSWORD, Person, Talk
from tests.support.server import Server

#: Sockets are closed within a second or so, as all workers look once a second. The rest is for busy
#: machines.
CLOSED_MAX = 4.0


@pytest.fixture(scope="module")
def workers(databases: Databases) -> Iterator[Server]:
    """A server of two workers."""
    with Server(databases.fresh("postgresql"), WEB_CONCURRENCY="2") as running:
        yield running
        check_log(running)


def on_both_workers(person: Person) -> list[Talk]:
    """Sockets of theirs, each with a token of its own."""
    talks: list[Talk] = []
    while len({talk.hello["worker"] for talk in talks}) < 2 or len(talks) < 6:
        person.token = person.sign_in()
        talks.append(person.talk())
        assert len(talks) < 50, "one worker gets them all"
    return talks


def go_on(talks: list[Talk]) -> bool:
    """Whether these sockets are still there; they are closed then."""
    alive = all(talk.alive() for talk in talks)
    for talk in talks:
        talk.close()
    return alive


def codes(talks: list[Talk]) -> set[int]:
    """With which codes they were closed, all of them within CLOSED_MAX."""
    began = time.monotonic()
    found = {talk.closed() for talk in talks}
    assert time.monotonic() - began < CLOSED_MAX
    return found


def refusal(person: Person) -> str:
    """The code with which their token is refused: over HTTP, and for a socket."""
    answer = person.get("/profile")
    assert answer.status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        person.talk()
    assert refused.value.response.status_code == 401
    code: str = answer.json()["code"]
    assert code.encode() in refused.value.response.body
    return code


def test_signing_out_everywhere_closes_the_sockets_of_all_tokens_on_all_workers(
    workers: Server,
) -> None:
    alice, bob = Person(workers), Person(workers, "bob")
    talks, others = on_both_workers(alice), on_both_workers(bob)
    answer = alice.post("/logout/all")
    assert codes(talks) == {4401}
    assert answer.json() == {"revoked": len(talks) + 1}, "the first one has no socket"
    assert go_on(others)
    assert refusal(alice) == "token_revoked"
    alice.token = alice.sign_in()
    with alice.talk() as talk:
        assert talk.alive()


def test_disabling_an_account_closes_its_sockets_on_all_workers(workers: Server) -> None:
    alice, bob = Person(workers), Person(workers, "bob")
    talks, others = on_both_workers(alice), on_both_workers(bob)
    said = flask(workers.database_url, "users", "disable", alice.name).stdout
    assert codes(talks) == {4403}
    assert said == f"{alice.name} is disabled. Sign-ins that have ended: {len(talks) + 1}.\n"
    assert go_on(others)
    assert refusal(alice) == "account_disabled"


def test_a_disabled_account_comes_back_when_it_is_enabled(server: Server) -> None:
    alice, bob = Person(server), Person(server, "bob")
    with alice.talk() as talk, bob.talk() as other:
        flask(server.database_url, "users", "disable", alice.name)
        assert codes([talk]) == {4403}
        assert other.alive()
    assert refusal(alice) == "account_disabled"
    login = alice.post("/login", {"username": alice.name, "password": PASSWORD})
    assert (login.status_code, login.json()["code"]) == (403, "account_disabled")
    flask(server.database_url, "users", "enable", alice.name)
    assert refusal(alice) == "token_revoked"
    alice.token = alice.sign_in()
    with alice.talk() as talk:
        assert talk.alive()


def test_signing_out_everywhere_closes_this_workers_sockets_at_once(alice: Person) -> None:
    first = alice.talk()
    alice.token = alice.sign_in()
    second = alice.talk()
    assert alice.post("/logout/all").json() == {"revoked": 2}
    assert {talk.closed(0.5) for talk in (first, second)} == {4401}
