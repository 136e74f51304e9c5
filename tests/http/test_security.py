"""What every answer tells a browser, and what never gets into a log, an address or an error."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from bytechat.models import User, now
from bytechat.security import CONTENT_SECURITY_POLICY
from bytechat.storage import transaction

from ..conftest import MakeApp
from ..support.databases import ROOT
from .conftest import Shared

ALICE = {"username": "alice", "password": "123456"}
SECRET = "hunter2 is the password"

ANSWERS = [
    ("GET", "/", 200),
    ("GET", "/static/page.js", 200),
    ("GET", "/healthz", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 200),
    ("POST", "/login", 200),
    ("OPTIONS", "/login", 200),
    ("HEAD", "/healthz", 200),
    ("GET", "/profile", 401),
    ("GET", "/nothing", 404),
    ("DELETE", "/login", 405),
    ("GET", "/ws", 426),
    ("GET", "//healthz", 308),
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_tells_the_browser_to_be_strict(
    shared: Shared, method: str, path: str, status: int
) -> None:
    answer = shared.client.open(path, method=method, json=ALICE, buffered=True)
    assert answer.status_code == status
    headers = answer.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    policy = headers["Content-Security-Policy"]
    assert policy == CONTENT_SECURITY_POLICY or path == "/docs"
    for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    if not path.startswith("/static"):
        assert headers["Cache-Control"] == "no-store"


def test_an_error_of_ours_has_them_too(make_app: MakeApp) -> None:
    app = make_app()

    def view() -> str:
        raise ValueError

    app.add_url_rule("/bug", "bug", view)
    answer = app.test_client().get("/bug")
    assert answer.status_code == 500
    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_pages_policy_lets_no_script_in_but_our_files() -> None:
    directives = dict(
        directive.strip().split(" ", 1) for directive in CONTENT_SECURITY_POLICY.split(";")
    )
    assert directives["script-src"] == "'self'"
    assert directives["style-src"] == "'self'"
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_the_page_puts_no_token_into_an_address() -> None:
    for path in (ROOT / "bytechat" / "web").rglob("*"):
        if path.suffix in (".js", ".html"):
            assert "token=" not in path.read_text(), path


def test_no_answer_repeats_a_password_or_a_hash(client: FlaskClient) -> None:
    bodies: list[dict[str, object]] = [
        {"username": "alice", "password": SECRET},
        {"username": "alice", "password": SECRET},  # taken
        {"username": "a", "password": SECRET},
        {"username": "bob", "password": SECRET * 4},
        {"username": "bob", "password": [SECRET]},
        {"username": "bob", "password": SECRET, "x": SECRET},
    ]
    for path in ("/register", "/login"):
        for body in bodies:
            answer = client.post(path, json=body).get_data(as_text=True)
            assert "hunter2" not in answer
            assert "$2b$" not in answer


# Errors of the database end in the log; their parameters are what people wrote.


def test_an_error_of_the_database_does_not_say_what_was_written(app: Flask) -> None:
    row = {"username": "bob", "display_name": SECRET, "password_hash": SECRET, "created_at": now()}
    with app.app_context():
        with transaction() as connection:
            connection.execute(insert(User), row)
        with pytest.raises(IntegrityError) as error, transaction() as connection:
            connection.execute(insert(User), row)
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(error.value)


def test_a_failed_request_does_not_log_what_was_sent(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with app.app_context(), transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE users DROP COLUMN display_name")
    answer = client.post("/register", json={"username": "alice", "password": SECRET})
    assert answer.status_code >= 500
    assert caplog.records
    assert "hunter2" not in caplog.text
    assert "$2b$" not in caplog.text
