"""The ends of sessions: all of an account's at once, and those of an account that is disabled."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event
from types import ModuleType
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, event, insert, select, update

from bytechat.auth import accounts, passwords, tokens
from bytechat.chat import rooms
from bytechat.errors import NotFound
from bytechat.extensions import db
from bytechat.models import RevokedToken, User, UserSession, now
from bytechat.storage import reading, transaction

from ..conftest import sign_in
from .bearer import bearer, claims_of
from .problems import problem
from .test_routes import HANDSHAKE
from .test_tokens import ALICE, GUARDED

Headers = dict[str, str]


def signed_in_again(client: FlaskClient) -> Headers:
    """The headers of another session of alice's."""
    answer = client.post("/login", json=ALICE)
    assert answer.status_code == 200
    return bearer(answer.get_json()["token"])


def refused_everywhere(client: FlaskClient, headers: Headers, code: str) -> bool:
    """Whether no call and no handshake takes the token."""
    for method, path in GUARDED:
        problem(client.open(path, method=method, headers=headers), 401, code)
    problem(client.get("/ws", headers={**HANDSHAKE, **headers}), 401, code)
    return True


def works(client: FlaskClient, headers: Headers) -> bool:
    return client.get("/profile", headers=headers).status_code == 200


def session_ids(app: Flask) -> set[int]:
    with app.app_context(), reading() as connection:
        return set(connection.scalars(select(UserSession.id)))


def listed(app: Flask) -> dict[str, bool]:
    """The blocklist: whether it was because the account was disabled, by jti."""
    with app.app_context(), reading() as connection:
        rows = connection.execute(select(RevokedToken.jti, RevokedToken.disabled))
        return {row.jti: row.disabled for row in rows}


def together(patch: pytest.MonkeyPatch, times: int, *rules: tuple[ModuleType, str]) -> None:
    """Let so many calls of these functions begin at the same moment: all have been let in then."""
    barrier = Barrier(times)
    for module, name in rules:
        rule: Callable[..., Any] = getattr(module, name)

        def begin(*arguments: Any, rule: Callable[..., Any] = rule) -> Any:
            barrier.wait(20)
            return rule(*arguments)

        patch.setattr(module, name, begin)


# Everywhere.


def test_signing_out_everywhere_ends_all_sessions_of_the_account_and_no_other(
    app: Flask, client: FlaskClient, alice: Headers, bob: Headers
) -> None:
    others = [signed_in_again(client) for _ in range(2)]
    answer = client.post("/logout/all", headers=alice)
    assert (answer.status_code, answer.get_json()) == (200, {"revoked": 3})
    for headers in (alice, *others):
        assert refused_everywhere(client, headers, "token_revoked")
    assert works(client, bob)
    assert session_ids(app) == {claims_of(bob)["sid"]}
    assert listed(app) == {claims_of(headers)["jti"]: False for headers in (alice, *others)}
    assert works(client, signed_in_again(client))


def test_a_browser_signs_out_everywhere_with_its_cookie_which_is_taken_away(
    client: FlaskClient, alice: Headers
) -> None:
    client.post("/login", json={**ALICE, "session": "cookie"})
    problem(client.post("/logout/all"), 401, "csrf_failed")
    csrf = client.get_cookie("bytechat_csrf")
    assert csrf is not None
    answer = client.post("/logout/all", headers={"X-CSRF-TOKEN": csrf.value})
    assert answer.get_json() == {"revoked": 2}
    assert client.get_cookie("bytechat_session") is None
    problem(client.get("/profile", headers=alice), 401, "token_revoked")


def test_sessions_that_have_expired_are_not_counted_as_ended(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    ago = now() - timedelta(minutes=1)
    with app.app_context(), transaction() as connection:
        row = {"user_id": 1, "jti": "over", "created_at": ago, "expires_at": ago}
        connection.execute(insert(UserSession), row)
    assert client.post("/logout/all", headers=alice).get_json() == {"revoked": 1}
    assert session_ids(app) == set()


def test_all_tokens_that_end_are_told_together_with_the_reason(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    first = {claims_of(headers)["jti"] for headers in (alice, signed_in_again(client))}
    told: list[tuple[set[str], bool]] = []

    def note(_app: Flask, jtis: set[str], disabled: bool) -> None:
        told.append((jtis, disabled))

    with app.app_context(), tokens.token_revoked.connected_to(note, app):
        client.post("/logout/all", headers=alice)
        second = {claims_of(signed_in_again(client))["jti"] for _ in range(2)}
        accounts.disable("alice")
    assert told == [(first, False), (second, True)]


def test_many_that_sign_out_everywhere_together_end_each_session_once(
    app: Flask, client: FlaskClient, alice: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = [alice, *(signed_in_again(client) for _ in range(5))]
    together(monkeypatch, len(everybody), (tokens, "revoke_all"))

    def sign_out(headers: Headers) -> tuple[int, int]:
        answer = app.test_client().post("/logout/all", headers=headers)
        return answer.status_code, answer.get_json()["revoked"]

    with ThreadPoolExecutor(len(everybody)) as pool:
        answers = list(pool.map(sign_out, everybody))
    assert {status for status, _ in answers} == {200}
    assert sum(revoked for _, revoked in answers) == len(everybody)
    assert session_ids(app) == set()
    assert listed(app).keys() == {claims_of(headers)["jti"] for headers in everybody}


def test_whatever_ends_sessions_at_the_same_moment_none_of_it_fails(
    app: Flask, client: FlaskClient, alice: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = [alice, *(signed_in_again(client) for _ in range(5))]
    jtis = {claims_of(headers)["jti"] for headers in everybody}
    calls = ["/logout", "/logout/all"]
    rules = [(tokens, "revoke"), (tokens, "revoke_all"), (accounts, "disable")]
    together(monkeypatch, len(everybody) + 1, *rules)

    def sign_out(numbered: tuple[int, Headers]) -> int:
        number, headers = numbered
        return app.test_client().post(calls[number % 2], headers=headers).status_code

    with ThreadPoolExecutor(len(everybody) + 1) as pool:
        disabled = pool.submit(disable, app)
        statuses = set(pool.map(sign_out, enumerate(everybody)))
        assert disabled.result() <= len(everybody)
    assert statuses == {200}
    assert session_ids(app) == set()
    assert listed(app).keys() == jtis


# What else ends a token, and what does not.


def test_a_token_whose_session_is_gone_works_nowhere(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    other = signed_in_again(client)
    with app.app_context(), transaction() as connection:
        gone = delete(UserSession).where(UserSession.id == claims_of(alice)["sid"])
        connection.execute(gone)
    assert refused_everywhere(client, alice, "token_revoked")
    assert works(client, other)


def test_a_token_on_the_blocklist_works_nowhere_though_its_session_goes_on(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    other = signed_in_again(client)
    with app.app_context(), transaction() as connection:
        row = {"jti": claims_of(alice)["jti"], "revoked_at": now(), "expires_at": now()}
        connection.execute(insert(RevokedToken), row)
    assert refused_everywhere(client, alice, "token_revoked")
    assert works(client, other)


def test_tokens_from_before_sessions_knew_them_end_like_all_others(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    other = signed_in_again(client)
    with app.app_context(), transaction() as connection:
        connection.execute(update(UserSession).values(jti=None))
    assert works(client, alice)
    assert client.post("/logout/all", headers=alice).get_json() == {"revoked": 2}
    assert refused_everywhere(client, alice, "token_revoked")
    assert refused_everywhere(client, other, "token_revoked")
    assert listed(app).keys() == {claims_of(alice)["jti"]}, "its sockets can be found at least"


def test_the_purge_ends_no_token_that_lives(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    with app.app_context():
        tokens.purge_expired(now())
    assert works(client, alice)
    with app.app_context(), reading() as connection:
        (end,) = connection.scalars(select(UserSession.expires_at))
    # They end together, so the purge, which comes a day later, finds the token expired.
    assert abs(end - tokens.expiry(claims_of(alice))) < timedelta(seconds=2)


def test_a_token_is_checked_in_one_statement(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    said: list[str] = []
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *call: said.append(call[2]))
        with reading() as connection:
            claims = claims_of(alice)
            rooms.admitted_by(connection, 1, claims["sid"], claims["jti"], rooms.Crowds())
        assert len(said) == 1
    said.clear()
    assert works(client, alice)
    assert len(said) == 2, "one for the token, one for the profile"


# Disabled.


def disable(app: Flask, name: str = "alice") -> int:
    with app.app_context():
        return accounts.disable(name)


def test_a_disabled_account_is_shut_out_and_others_are_not(
    app: Flask, client: FlaskClient, alice: Headers, bob: Headers
) -> None:
    other = signed_in_again(client)
    assert disable(app) == 2
    for headers in (alice, other):
        assert refused_everywhere(client, headers, "account_disabled")
    problem(client.post("/login", json=ALICE), 403, "account_disabled")
    assert works(client, bob)
    assert session_ids(app) == {claims_of(bob)["sid"]}
    assert listed(app) == {claims_of(headers)["jti"]: True for headers in (alice, other)}


def test_a_token_of_a_disabled_account_does_not_work_whatever_the_lists_say(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    with app.app_context(), transaction() as connection:
        connection.execute(update(User).values(disabled_at=now()))
    assert refused_everywhere(client, alice, "account_disabled")


def test_an_account_that_is_enabled_again_signs_in_anew(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    disable(app)
    with app.app_context():
        accounts.enable("alice")
    assert refused_everywhere(client, alice, "token_revoked")
    assert works(client, signed_in_again(client))


def test_who_has_not_the_password_is_not_told_that_an_account_is_disabled(
    app: Flask, client: FlaskClient, alice: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[bool] = []
    matches = passwords.matches

    def counted(password: bytes, password_hash: str | None, rounds: int) -> bool:
        costs.append(password_hash is not None)
        return matches(password, password_hash, rounds)

    monkeypatch.setattr(passwords, "matches", counted)
    wrong = {**ALICE, "password": "654321"}
    before = problem(client.post("/login", json=wrong), 401, "invalid_credentials")
    disable(app)
    assert problem(client.post("/login", json=wrong), 401, "invalid_credentials") == before
    nobody = {**ALICE, "username": "nobody"}
    assert problem(client.post("/login", json=nobody), 401, "invalid_credentials") == before
    assert costs == [True, True, False], "one hash for each, as ever"


def test_to_disable_an_account_twice_keeps_the_first_moment(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    moments: list[Any] = []
    for ended in (1, 0):
        assert disable(app, "ALICE") == ended, "names are compared without case"
        with app.app_context(), reading() as connection:
            moments += connection.scalars(select(User.disabled_at))
    first, second = moments
    assert first == second
    assert now() - first < timedelta(minutes=1)


def test_an_account_that_is_not_there_cannot_be_disabled(app: Flask) -> None:
    with app.app_context():
        for change in (accounts.disable, accounts.enable):
            with pytest.raises(NotFound, match="no account"):
                change("nobody")


def test_who_is_disabled_while_the_password_is_checked_is_not_let_in(
    app: Flask, client: FlaskClient, alice: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    matches = passwords.matches

    def meanwhile(password: bytes, password_hash: str | None, rounds: int) -> bool:
        disable(app)
        return matches(password, password_hash, rounds)

    monkeypatch.setattr(passwords, "matches", meanwhile)
    problem(client.post("/login", json=ALICE), 403, "account_disabled")
    assert session_ids(app) == set()


def test_a_session_that_is_being_opened_does_not_outlive_the_disabling(
    app: Flask, client: FlaskClient, alice: Headers
) -> None:
    with app.app_context():
        engine = db.engine
    opening, disabled = Event(), Event()

    def hesitate(*call: Any) -> None:
        if call[2].startswith("INSERT INTO sessions"):
            opening.set()
            disabled.wait(0.5)  # in vain, as whoever disables must wait for this commit

    event.listen(engine, "before_cursor_execute", hesitate)
    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(lambda: app.test_client().post("/login", json=ALICE))
        assert opening.wait(10)
        assert disable(app) == 2
        disabled.set()
        token = login.result().get_json()["token"]
    assert session_ids(app) == set()
    assert refused_everywhere(client, bearer(token), "account_disabled")


def test_many_that_sign_in_and_out_while_the_account_goes_off_and_on_meet_no_error(
    app: Flask, client: FlaskClient
) -> None:
    sign_in(client, "alice")
    numbers = random.Random(1)
    choices = [numbers.choice(["in", "all", "off", "on"]) for _ in range(80)]

    def act(choice: str) -> int:
        mine = app.test_client()
        if choice in ("off", "on"):
            with app.app_context():
                (accounts.disable if choice == "off" else accounts.enable)("alice")
            return 200
        answer = mine.post("/login", json=ALICE)
        if choice == "in" or answer.status_code != 200:
            return answer.status_code
        return mine.post("/logout/all", headers=bearer(answer.get_json()["token"])).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(act, choices))
    assert statuses <= {200, 401, 403}
    disable(app)
    assert session_ids(app) == set()
