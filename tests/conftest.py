"""What all tests share: databases, an application on each of them, and the cast."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient

from bytechat import create_app
from bytechat.extensions import db

from .support.databases import Databases, settings
from .support.server import wait_for_all

# HYPOTHESIS_PROFILE=long looks for much longer; a test then needs more than pytest's --timeout.
hypothesis.settings.register_profile("long", max_examples=10_000, print_blob=True)
if profile := os.environ.get("HYPOTHESIS_PROFILE"):
    hypothesis.settings.load_profile(profile)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script's "&" means that, and a server or a terminal under test would inherit it, deaf to
    # Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

KINDS = ["sqlite", "postgresql"]

MakeApp = Callable[..., Flask]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="tests/live over all deployments")
    parser.addoption("--long", action="store_true", help="the long form of tests/faults")
    parser.addoption("--seed", type=int, default=1, help="what goes wrong when in tests/faults")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    made = Databases()
    yield made
    wait_for_all()
    made.close()


@pytest.fixture(params=KINDS)
def make_app(request: pytest.FixtureRequest, databases: Databases) -> Iterator[MakeApp]:
    """Makes an application on a fresh database, of each kind in turn; takes settings."""
    apps: list[Flask] = []

    def make(**changed: object) -> Flask:
        app = create_app(settings(databases.fresh(request.param), **changed))
        app.testing = True
        apps.append(app)
        return app

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def alice(client: FlaskClient) -> dict[str, str]:
    """The headers of alice, who is signed in."""
    return sign_in(client, "alice")


@pytest.fixture
def bob(client: FlaskClient) -> dict[str, str]:
    """The headers of bob, who is signed in."""
    return sign_in(client, "bob")


def sign_in(client: FlaskClient, username: str, password: str = "123456") -> dict[str, str]:
    credentials = {"username": username, "password": password}
    assert client.post("/register", json=credentials).status_code == 201
    token = client.post("/login", json=credentials).get_json()["token"]
    return {"Authorization": f"Bearer {token}"}
