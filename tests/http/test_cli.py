"""The commands for administrators."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from bytechat.auth import accounts

from ..conftest import MakeApp
from .outage import outage
from .problems import problem

ALICE = {"username": "alice", "password": "123456"}


def run(app: Flask, *arguments: str) -> tuple[int, str]:
    """The exit code of ``flask ...``, and what it says."""
    done = app.test_cli_runner().invoke(args=arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_an_account_is_disabled_and_enabled_by_its_name(
    app: Flask, client: FlaskClient, alice: dict[str, str]
) -> None:
    client.post("/login", json=ALICE)
    assert run(app, "users", "disable", "Alice") == (
        0,
        "Alice is disabled. Sign-ins that have ended: 2.\n",
    )
    problem(client.get("/profile", headers=alice), 401, "account_disabled")
    problem(client.post("/login", json=ALICE), 403, "account_disabled")
    assert run(app, "users", "enable", "Alice") == (0, "Alice is enabled.\n")
    assert client.post("/login", json=ALICE).status_code == 200
    problem(client.get("/profile", headers=alice), 401, "token_revoked")


@pytest.mark.parametrize("command", ["disable", "enable"])
def test_a_name_that_nobody_has_is_an_error_in_one_line(app: Flask, command: str) -> None:
    assert run(app, "users", command, "nobody") == (
        1,
        "Error: There is no account of this name.\n",
    )
    code, said = run(app, "users", command, "a b")
    assert (code, said) == (1, "Error: A name has letters, digits and _ . - only.\n")


@pytest.mark.parametrize("command", ["disable", "enable"])
def test_a_guest_has_no_account_to_disable(app: Flask, command: str) -> None:
    with app.app_context():
        guest = accounts.admit_guest()
    code, said = run(app, "users", command, guest.username)
    assert (code, said) == (1, "Error: Names that begin with guest- are for guests.\n")


def test_a_database_that_is_down_is_an_error_in_one_line(make_app: MakeApp) -> None:
    app = make_app(database_timeout=1)
    with outage(app):
        code, said = run(app, "users", "disable", "alice")
    assert code == 1
    assert said == "Error: The database does not answer; try again in a moment.\n"


def test_the_commands_say_what_they_do(app: Flask) -> None:
    code, said = run(app, "users", "--help")
    assert code == 0
    assert "disable  Shut the account NAME out." in said
    assert "enable   Let the account NAME sign in again." in said
    for command in ("disable", "enable"):
        code, said = run(app, "users", command, "--help")
        assert code == 0
        assert f"users {command} [OPTIONS] NAME" in said
        assert "token" in said
        code, said = run(app, "users", command)
        assert code == 2
        assert "Missing argument 'NAME'" in said
