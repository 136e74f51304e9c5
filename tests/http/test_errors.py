"""Errors: one shape for all, the right status, and never 5xx for anything that a client sent."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import default_exceptions
from werkzeug.test import TestResponse

from ..conftest import MakeApp
from .conftest import Shared
from .outage import outage
from .problems import problem

ALICE = {"username": "alice", "password": "123456"}
JSON = "application/json"


def send(shared: Shared, path: str, body: bytes, content_type: str | None = JSON) -> TestResponse:
    return shared.client.post(path, data=body, content_type=content_type)


# Requests that no endpoint takes.


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/profile/",
        "/rooms",
        "/rooms//messages",
        "/static/nothing.js",
        "/static/../config.py",
        "/static/%2e%2e/__init__.py",
        "/%00",
        "/%ff",
        "/" + "x" * 5000,
        "/.env",
    ],
)
def test_what_is_not_there_is_not_found(shared: Shared, path: str) -> None:
    problem(shared.client.get(path, headers=shared.alice), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/register", {"OPTIONS", "POST"}),
        ("DELETE", "/login", {"OPTIONS", "POST"}),
        ("POST", "/profile", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/rooms/lobby/messages", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("TRACE", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/openapi.json", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    shared: Shared, method: str, path: str, allow: set[str]
) -> None:
    answer = shared.client.open(path, method=method, headers=shared.alice)
    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == allow


def test_whatever_flask_itself_refuses_has_the_same_shape(make_app: MakeApp) -> None:
    app = make_app()
    refusals = {status: error for status, error in default_exceptions.items() if status != 401}
    for status, error in refusals.items():
        app.add_url_rule(f"/{status}", str(status), _raiser(error))
    client = app.test_client()
    for status in refusals:
        answer = client.get(f"/{status}")
        body = problem(answer, status, answer.get_json()["code"])
        assert body["code"].replace("_", "").isalnum()
        assert body["code"] == body["code"].lower()


def _raiser(error: type[Exception]) -> Any:
    def view() -> None:
        raise error

    return view


# Bodies.

NOT_JSON = [
    None,
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "",
    "json",
]


@pytest.mark.parametrize("content_type", NOT_JSON, ids=str)
def test_what_does_not_say_that_it_is_json_is_not_read(
    shared: Shared, content_type: str | None
) -> None:
    for body in (json.dumps(ALICE).encode(), b"", b"{"):
        problem(send(shared, "/login", body, content_type), 415, "not_json")


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.alice+json"],
)
def test_whatever_says_that_it_is_json_is_read(shared: Shared, content_type: str) -> None:
    assert send(shared, "/login", json.dumps(ALICE).encode(), content_type).status_code == 200


GOOD = json.dumps(ALICE).encode()
DEEP = 10_000

MALFORMED = {
    "empty": b"",
    "blank": b" \n",
    "a word": b"alice",
    "a form": b"username=alice&password=123456",
    "truncated": GOOD[:-1],
    "truncated in a text": GOOD[:-3],
    "trailing": GOOD + b"}",
    "two": GOOD + GOOD,
    "trailing comma": b'{"username": "alice", "password": "123456",}',
    "single quotes": b"{'username': 'alice', 'password': '123456'}",
    "comment": GOOD + b" // hi",
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": json.dumps(ALICE).encode("utf-16"),
    "Latin-1": '{"username": "josé", "password": "123456"}'.encode("latin-1"),
    "not UTF-8 in a value": b'{"username": "\xff\xfe", "password": "123456"}',
    "not UTF-8 in a field": b'{"\xff": "alice", "password": "123456"}',
    "surrogate in UTF-8": b'{"username": "\xed\xa0\x80x", "password": "123456"}',
    "lone high surrogate": b'{"username": "al\\ud800ice", "password": "123456"}',
    "lone low surrogate": b'{"username": "al\\udc00ice", "password": "123456"}',
    "surrogates changed over": b'{"username": "\\udc00\\ud800", "password": "123456"}',
    "broken escape": b'{"username": "\\x41", "password": "123456"}',
    "line break in a text": b'{"username": "a\nb", "password": "123456"}',
    "NUL": b'{"username": "a\x00b", "password": "123456"}',
    "NaN": b'{"username": NaN, "password": "123456"}',
    "leading zero": b'{"username": 01, "password": "123456"}',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("path", ["/register", "/login"])
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_json_is_refused(shared: Shared, path: str, body: bytes) -> None:
    problem(send(shared, path, body), 400, "malformed_json")


NESTED = {
    "lists": b"[" * DEEP + b"]" * DEEP,
    "objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "lists without end": b"[" * DEEP,
    "objects without end": b'{"a":' * DEEP,
    "as a name": b'{"username":' + b"[" * DEEP + b"]" * DEEP + b',"password":"123456"}',
    "as a password": b'{"username":"alice","password":'
    + b'{"a":' * DEEP
    + b"1"
    + b"}" * DEEP
    + b"}",
    "as an unknown field": b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"," + GOOD[1:],
    "after all is read": GOOD[:-1] + b',"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "as the session": GOOD[:-1] + b',"session":' + b"[" * DEEP + b"]" * DEEP + b"}",
}


@pytest.mark.parametrize("path", ["/register", "/login"])
@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED)
def test_ten_thousand_levels_are_refused_wherever_they_are(
    shared: Shared, path: str, body: bytes
) -> None:
    answer = send(shared, path, body)
    problem(answer, answer.status_code, answer.get_json()["code"])
    assert answer.status_code in (400, 422)


WRONG = {
    "null": None,
    "a list": [],
    "a list of values": ["alice", "123456"],
    "a text": "alice",
    "a number": 1,
    "nothing in it": {},
    "no password": {"username": "alice"},
    "no name": {"password": "123456"},
    "number for a name": {**ALICE, "username": 1},
    "null for a name": {**ALICE, "username": None},
    "list for a name": {**ALICE, "username": ["alice"]},
    "bool for a password": {**ALICE, "password": True},
    "number for a password": {**ALICE, "password": 123456},
    "unknown field": {**ALICE, "admin": True},
    "unknown field without a name": {**ALICE, "": 1},
    "case of a field": {"Username": "alice", "password": "123456"},
    "unknown field with a line break": {**ALICE, "a\nb`": 1},
}


@pytest.mark.parametrize("path", ["/register", "/login"])
@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_json_that_is_not_what_was_asked_for_is_refused(
    shared: Shared, path: str, body: object
) -> None:
    problem(send(shared, path, json.dumps(body).encode()), 422, "validation")


WRONG_VALUES = {
    "empty name": ({**ALICE, "username": ""}, "username"),
    "long name": ({**ALICE, "username": "x" * 33}, "username"),
    "very long name": ({**ALICE, "username": "x" * 60_000}, "username"),
    "NUL in the name": ({**ALICE, "username": "a\x00b"}, "username"),
    "empty password": ({"username": "carol", "password": ""}, "password"),
    "long password": ({"username": "carol", "password": "x" * 73}, "password"),
    "NUL in the password": ({"username": "carol", "password": "123\x00456"}, "password"),
    "number for a name": ({**ALICE, "username": 1}, "username"),
    "unknown field": ({**ALICE, "admin": True}, "admin"),
    "missing field": ({"username": "carol"}, "password"),
}


@pytest.mark.parametrize(("body", "field"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_the_field_that_is_wrong_is_named(
    shared: Shared, body: dict[str, object], field: str
) -> None:
    errors = problem(shared.client.post("/register", json=body), 422, "validation")["errors"]
    assert list(errors) == [field]


def test_a_body_over_the_limit_is_refused_and_one_of_the_limit_is_read(shared: Shared) -> None:
    limit = 65_536
    padded = GOOD + b" " * (limit - len(GOOD))
    assert send(shared, "/login", padded).status_code == 200
    problem(send(shared, "/login", padded + b" "), 413, "too_large")
    # One whose length nobody has said.
    environ = {"wsgi.input": io.BytesIO(padded + b" "), "wsgi.input_terminated": True}
    chunked = shared.client.post("/login", content_type=JSON, environ_overrides=environ)
    problem(chunked, 413, "too_large")


def test_the_limit_of_a_body_is_a_setting(make_app: MakeApp) -> None:
    client = make_app(body_max=50).test_client()
    problem(client.post("/login", json={**ALICE, "password": "x" * 50}), 413, "too_large")
    client = make_app(body_max=0).test_client()
    answer = client.post("/login", json={**ALICE, "password": "x" * 200_000})
    problem(answer, 401, "invalid_credentials")


def test_a_body_that_nobody_asked_for_is_not_read(shared: Shared) -> None:
    body = b"x" * 100_000
    answer = shared.client.get("/profile", headers=shared.alice, data=body)
    assert answer.status_code == 200


def test_who_asks_is_checked_before_what_is_asked(shared: Shared) -> None:
    problem(shared.client.get("/rooms/lobby/messages?limit=x"), 401, "not_authenticated")
    problem(shared.client.get("/rooms/nothing/messages"), 401, "not_authenticated")


# The socket's address, asked in plain HTTP.


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}


def test_the_socket_without_an_upgrade_says_what_it_is(shared: Shared) -> None:
    answer = shared.client.get("/ws", headers=shared.alice)
    problem(answer, 426, "upgrade_required")
    assert answer.headers["Upgrade"] == "websocket"


def test_an_upgrade_where_there_is_no_socket_is_refused(shared: Shared) -> None:
    problem(
        shared.client.get("/profile", headers={**shared.alice, **HANDSHAKE}), 400, "bad_handshake"
    )


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://evil.example/localhost",
        "http://[",
        "http://[::1",
        "localhost",
        "http://localhost:81",
        "\x7f",
        "http://é",
    ],
)
def test_a_page_of_another_origin_may_not_open_a_socket(shared: Shared, origin: str) -> None:
    headers = {**shared.alice, **HANDSHAKE, "Origin": origin}
    problem(shared.client.get("/ws", headers=headers), 403, "forbidden_origin")


# What is our fault.


def test_a_bug_is_told_without_a_word_about_it(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()

    def view() -> str:
        raise ValueError("the secret of alice")

    app.add_url_rule("/bug", "bug", view)
    for testing in (True, False):
        app.testing = testing
        answer = app.test_client().get("/bug")
        assert problem(answer, 500, "internal") == {
            "title": "Something went wrong here",
            "status": 500,
            "detail": "Something went wrong here.",
            "code": "internal",
        }
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_an_outage_of_the_database_is_told_with_when_to_come_again(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    client = app.test_client()
    with outage(app):
        for answer in (
            client.post("/register", json=ALICE),
            client.post("/login", json=ALICE),
            client.get("/readyz"),
        ):
            problem(answer, 503, "unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        assert client.get("/healthz").get_json() == {"status": "ok"}
        assert client.get("/").status_code == 200
    assert client.get("/readyz").get_json() == {"status": "ok"}
    assert client.post("/register", json=ALICE).status_code == 201
    assert not [record for record in caplog.records if record.exc_info], "no tracebacks"


# Anything at all.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=80),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = st.sampled_from(["username", "password", "session"]) | st.text(max_size=5)
NAMES = st.text(st.characters(), max_size=34)
BODIES = (
    st.binary(max_size=200)
    | VALUES.map(json.dumps).map(str.encode)
    | st.dictionaries(FIELDS, VALUES, max_size=4).map(json.dumps).map(str.encode)
    | st.fixed_dictionaries({"username": NAMES, "password": NAMES}).map(json.dumps).map(str.encode)
    | st.fixed_dictionaries({"username": NAMES, "password": NAMES}).map(
        lambda body: json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass")
    )
)


@settings(deadline=None, max_examples=200)
@given(BODIES, st.sampled_from(["/register", "/login"]))
def test_nothing_that_is_sent_is_our_fault(shared: Shared, body: bytes, path: str) -> None:
    answer = send(shared, path, body)
    assert answer.status_code in (200, 201, 400, 401, 409, 422)
    if answer.status_code >= 400:
        problem(answer, answer.status_code, answer.get_json()["code"])


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["/rooms/{}/messages", "/{}", "/static/{}"]),
    st.binary(max_size=30),
    st.dictionaries(
        st.sampled_from(["limit", "before", "after", "x"]), st.text(max_size=25), max_size=3
    ),
)
def test_nothing_that_is_asked_for_is_our_fault(
    shared: Shared, path: str, part: bytes, query: dict[str, str]
) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in part)
    answer = shared.client.get(path.format(quoted), headers=shared.alice, query_string=query)
    assert answer.status_code < 500
