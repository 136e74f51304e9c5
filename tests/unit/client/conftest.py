"""A fake server, and a client of it that does not wait long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from bytechat.client import Client
from bytechat.client.retry import Backoff

from ...support.clients import SECONDS, TOKEN
from ...support.fake_server import FakeServer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are tested by their numbers, not by waiting."""
    monkeypatch.setattr(Backoff.__init__, "__defaults__", (0.05, 0.2))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def alice(server: FakeServer) -> Iterator[Client]:
    with closing(Client(server.url, TOKEN)) as client:
        client.connected(SECONDS)
        yield client
