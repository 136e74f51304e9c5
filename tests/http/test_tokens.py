"""Tokens: what works, what does not, and from when on; in doubt it does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_refresh_token
from sqlalchemy import insert, select

from bytechat.auth import tokens
from bytechat.models import RevokedToken, UserSession, now
from bytechat.storage import transaction

from ..conftest import MakeApp
from ..support.databases import SECRET
from .bearer import bearer, claims_of, token_of
from .conftest import Shared
from .outage import outage
from .problems import problem

ALICE = {"username": "alice", "password": "123456"}
#: Calls that need a token; a bad one must be refused by each.
GUARDED = [
    ("GET", "/profile"),
    ("GET", "/rooms/lobby/messages"),
    ("POST", "/logout"),
    ("POST", "/logout/all"),
]


def changed(headers: dict[str, str], **claims: object) -> dict[str, str]:
    """The same token with other claims."""
    return bearer(jwt.encode({**claims_of(headers), **claims}, SECRET, "HS256"))


def seconds_from_now(seconds: int) -> int:
    return int(datetime.now(UTC).timestamp()) + seconds


# Signed out.


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_token_that_was_signed_out_works_nowhere(
    client: FlaskClient, alice: dict[str, str], method: str, path: str
) -> None:
    answer = client.post("/logout", headers=alice)
    assert answer.get_json() == {"revoked": 1}
    problem(client.open(path, method=method, headers=alice), 401, "token_revoked")


def test_signing_out_ends_this_session_and_no_other(
    app: Flask, client: FlaskClient, alice: dict[str, str], bob: dict[str, str]
) -> None:
    again = bearer(client.post("/login", json=ALICE).get_json()["token"])
    client.post("/logout", headers=alice)
    for headers in (again, bob):
        assert client.get("/profile", headers=headers).status_code == 200
    with app.app_context(), transaction() as connection:
        sessions = set(connection.scalars(select(UserSession.id)))
        (revoked,) = connection.execute(select(RevokedToken))
    assert sessions == {claims_of(again)["sid"], claims_of(bob)["sid"]}
    assert revoked.jti == claims_of(alice)["jti"]
    end = datetime.fromtimestamp(claims_of(alice)["exp"], UTC)
    assert abs(revoked.expires_at - end) < timedelta(seconds=2)
    assert not revoked.disabled
    assert now() - revoked.revoked_at < timedelta(minutes=1)


def test_signing_out_many_times_at_once_is_one_row_and_no_error(
    app: Flask, alice: dict[str, str]
) -> None:
    times = 6
    together = Barrier(times)

    def sign_out(_number: int) -> int:
        client = app.test_client()
        together.wait(10)
        return client.post("/logout", headers=alice).status_code

    with ThreadPoolExecutor(times) as pool:
        statuses = set(pool.map(sign_out, range(times)))
    assert 200 in statuses
    assert statuses <= {200, 401}
    with app.app_context(), transaction() as connection:
        assert len(connection.execute(select(RevokedToken)).all()) == 1


def test_both_of_two_that_passed_the_check_together_are_told_that_it_is_done(
    app: Flask, alice: dict[str, str]
) -> None:
    told: list[set[str]] = []

    def note(_app: Flask, jtis: set[str], disabled: bool) -> None:
        told.append(jtis)

    with app.app_context(), tokens.token_revoked.connected_to(note, app):
        tokens.revoke(claims_of(alice))
        tokens.revoke(claims_of(alice))
    assert told == [{claims_of(alice)["jti"]}] * 2


# Time.


@pytest.mark.parametrize("ago", [0, 1, 5, 9, 11, 3600])
def test_a_token_stops_working_at_its_end_without_leeway(shared: Shared, ago: int) -> None:
    headers = changed(shared.alice, exp=seconds_from_now(-ago))
    problem(shared.client.get("/profile", headers=headers), 401, "token_expired")


def test_a_token_works_until_its_end(shared: Shared) -> None:
    headers = changed(shared.alice, exp=seconds_from_now(3))
    assert shared.client.get("/profile", headers=headers).status_code == 200


@pytest.mark.parametrize("ahead", [2, 8])
def test_a_token_of_a_machine_whose_clock_is_a_little_ahead_works(
    shared: Shared, ahead: int
) -> None:
    soon = seconds_from_now(ahead)
    headers = changed(shared.alice, iat=soon, nbf=soon)
    assert shared.client.get("/profile", headers=headers).status_code == 200


def test_a_token_of_the_future_does_not(shared: Shared) -> None:
    for claim in ("nbf", "iat"):
        headers = changed(shared.alice, **{claim: seconds_from_now(60)})
        problem(shared.client.get("/profile", headers=headers), 401, "invalid_token")


def test_a_token_lasts_as_long_as_the_setting_says(make_app: MakeApp) -> None:
    client = make_app(token_hours=0.5).test_client()
    client.post("/register", json=ALICE)
    body = client.post("/login", json=ALICE).get_json()
    assert body["expires_in"] == 1800
    claims = claims_of(bearer(body["token"]))
    assert -5 < claims["exp"] - seconds_from_now(1800) <= 0


# Forged and broken.


def part(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


def forgeries(good: str) -> Iterator[str]:
    header, claims, signature = good.split(".")
    payload = jwt.decode(good, options={"verify_signature": False})
    yield jwt.encode(payload, "another key of over thirty-two bytes", "HS256")
    yield jwt.encode(payload, SECRET, "HS512")  # not what we make
    yield jwt.encode(payload, None, "none")
    for algorithm in ("none", "None", "NONE", "RS256", "", None, 1, ["HS256"]):
        yield f"{part({'alg': algorithm, 'typ': 'JWT'})}.{claims}."
        yield f"{part({'alg': algorithm, 'typ': 'JWT'})}.{claims}.{signature}"
    yield f"{header}.{part({**payload, 'sub': '2'})}.{signature}"
    yield f"{header}.{claims}."
    yield f"{header}.{claims}.{'A' * len(signature)}"
    yield f"{part({'alg': 'HS256', 'crit': ['exp']})}.{claims}.{signature}"
    yield f"{header}.{claims}.{signature[::-1]}"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # by us, for HS512
def test_forged_tokens_are_refused(shared: Shared) -> None:
    for forged in forgeries(token_of(shared.alice)):
        answer = shared.client.get("/profile", headers=bearer(forged))
        problem(answer, 401, "invalid_token")


MALFORMED = [
    "x",
    "x.y",
    "x.y.z",
    "..",
    "...",
    "a.b.c.d.e",
    "bnVsbA.bnVsbA.bnVsbA",
    "W10.W10.W10",
    "null",
    "é.é.é",
    "eyJ\xff.eyJ.x",
    "e30.e30.",
    "x" * 20_000,
    ".".join("x" * 5000),
]


@pytest.mark.parametrize("token", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_not_a_token_is_refused(shared: Shared, token: str) -> None:
    problem(shared.client.get("/profile", headers=bearer(token)), 401, "invalid_token")


HEADERS = {
    "no header": ({}, "not_authenticated"),
    "empty header": ({"Authorization": ""}, "not_authenticated"),
    "another scheme": ({"Authorization": "Basic YWxpY2U6MTIzNDU2"}, "not_authenticated"),
    "no scheme": ({"Authorization": "TOKEN"}, "not_authenticated"),
    "scheme glued on": ({"Authorization": "BearerTOKEN"}, "not_authenticated"),
    "token as a scheme": ({"Authorization": "Token TOKEN"}, "not_authenticated"),
    "nothing after the scheme": ({"Authorization": "Bearer "}, None),
    "two tokens": ({"Authorization": "Bearer TOKEN TOKEN"}, None),
    "two tokens with a comma": ({"Authorization": "Bearer TOKEN, Bearer TOKEN"}, None),
    "two tokens, once in lower case": ({"Authorization": "Bearer TOKEN,bearer TOKEN"}, None),
    "scheme of another one": ({"Authorization": "Basic bearer TOKEN"}, "not_authenticated"),
    "scheme within a word": ({"Authorization": "xbearer TOKEN"}, "not_authenticated"),
}


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEARER", " bearer ", "bearer\t"])
def test_the_scheme_is_compared_without_case(shared: Shared, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {token_of(shared.alice)}"}
    assert shared.client.get("/profile", headers=headers).status_code == 200
    problem(
        shared.client.get("/profile", headers={"Authorization": "bearer x"}), 401, "invalid_token"
    )


@pytest.mark.parametrize(("headers", "code"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_does_not_bear_a_token_is_refused(
    shared: Shared, headers: dict[str, str], code: str | None
) -> None:
    sent = {name: value.replace("TOKEN", token_of(shared.alice)) for name, value in headers.items()}
    answer = shared.client.get("/profile", headers=sent)
    body = problem(answer, 401, code or answer.get_json()["code"])
    assert body["code"] in ("not_authenticated", "invalid_token")


@pytest.mark.parametrize("sub", [1, "2"])
def test_a_token_for_nobody_is_refused(shared: Shared, sub: object) -> None:
    headers = changed(shared.alice, sub=sub)
    assert shared.client.get("/profile", headers=headers).status_code == 401


def test_a_refresh_token_is_not_an_access_token(shared: Shared) -> None:
    with shared.app.app_context():
        headers = bearer(create_refresh_token("1", additional_claims={"sid": 1}))
    problem(shared.client.get("/profile", headers=headers), 401, "invalid_token")


def test_a_token_in_the_address_works_on_the_socket_only(shared: Shared) -> None:
    query = {"token": token_of(shared.alice)}
    for method, path in GUARDED:
        answer = shared.client.open(path, method=method, query_string=query)
        problem(answer, 401, "not_authenticated")


def test_a_token_in_the_body_does_not_work(shared: Shared) -> None:
    for body in ({"token": token_of(shared.alice)}, {"access_token": token_of(shared.alice)}):
        problem(shared.client.post("/logout", json=body), 401, "not_authenticated")


# Making.


def test_each_token_is_another_one_though_made_in_the_same_moment(shared: Shared) -> None:
    made = [shared.client.post("/login", json=ALICE).get_json()["token"] for _ in range(5)]
    assert len({claims_of(bearer(token))["jti"] for token in made}) == 5
    assert len({claims_of(bearer(token))["sid"] for token in made}) == 5


def test_a_token_says_who_which_session_and_until_when(shared: Shared) -> None:
    claims = claims_of(shared.alice)
    assert claims["sub"] == "1", "PyJWT refuses an integer"
    assert claims["sid"] == 1
    assert set(claims) == {"fresh", "iat", "jti", "type", "sub", "nbf", "csrf", "exp", "sid"}


# The database.


def test_while_the_database_is_down_no_token_passes(
    app: Flask, client: FlaskClient, alice: dict[str, str], bob: dict[str, str]
) -> None:
    client.post("/logout", headers=bob)
    with outage(app):
        for headers in (alice, bob):
            for method, path in GUARDED:
                answer = client.open(path, method=method, headers=headers)
                problem(answer, 503, "unavailable")
                assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/profile", headers=alice).status_code == 200
    problem(client.get("/profile", headers=bob), 401, "token_revoked")


def test_whatever_is_wrong_with_the_blocklist_no_token_passes(
    app: Flask, client: FlaskClient, alice: dict[str, str]
) -> None:
    with app.app_context(), transaction() as connection:
        connection.exec_driver_sql("DROP TABLE revoked_tokens")
    problem(client.get("/profile", headers=alice), 503, "unavailable")


def test_the_purge_forgets_what_has_long_expired_and_nothing_else(app: Flask) -> None:
    moment = now()
    ages = {"old": timedelta(hours=-1), "at": timedelta(0), "new": timedelta(hours=1)}
    with app.app_context():
        app.test_client().post("/register", json=ALICE)
        with transaction() as connection:
            for jti, age in ages.items():
                connection.execute(
                    insert(RevokedToken),
                    {"jti": jti, "revoked_at": moment, "expires_at": moment + age},
                )
                connection.execute(
                    insert(UserSession),
                    {"user_id": 1, "created_at": moment, "expires_at": moment + age},
                )
        tokens.purge_expired(moment)
        with transaction() as connection:
            assert set(connection.scalars(select(RevokedToken.jti))) == {"at", "new"}
            assert set(connection.scalars(select(UserSession.id))) == {2, 3}


def test_what_was_revoked_lately_is_told_by_the_moment_and_by_the_reason(app: Flask) -> None:
    moment = now()
    rows = [("before", -1, False), ("signed out", 1, False), ("disabled", 1, True)]
    with app.app_context():
        with transaction() as connection:
            for jti, age, disabled in rows:
                at = moment + timedelta(seconds=age)
                row = {"jti": jti, "revoked_at": at, "expires_at": at, "disabled": disabled}
                connection.execute(insert(RevokedToken), row)
        assert tokens.revoked_since(moment) == {False: {"signed out"}, True: {"disabled"}}
