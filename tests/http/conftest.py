"""An application for all tests of a module that leave it as it was: a database costs 0.2 s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient

from bytechat import create_app, storage

from ..conftest import KINDS, sign_in
from ..support.databases import Databases, settings


class Shared(NamedTuple):
    """An application in which alice, whose headers these are, is signed in."""

    app: Flask
    client: FlaskClient
    alice: dict[str, str]


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Shared]:
    """Of each kind in turn. Not for tests that change what others see."""
    app = create_app(settings(databases.fresh(request.param)))
    app.testing = True
    client = app.test_client(use_cookies=False)
    yield Shared(app, client, sign_in(client, "alice"))
    storage.close(app)
