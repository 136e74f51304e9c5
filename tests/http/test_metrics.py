"""``GET /metrics``: what happens can be seen in it, and not who did it."""

from __future__ import annotations

import re

from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families as parse

from bytechat.auth import passwords
from bytechat.chat.runtime import Runtime
from bytechat.storage import reading
from tests.support.databases import ROOT

from .conftest import Shared


def figures(client: FlaskClient) -> dict[str, dict[str, float]]:
    """The values by name and worker."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, dict[str, float]] = {}
    for family in parse(answer.get_data(as_text=True)):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, {})[sample.labels["worker"]] = sample.value
    return found


def runtime_of(app: Flask) -> Runtime:
    runtime: Runtime = app.extensions["bytechat.runtime"]
    return runtime


def test_every_figure_has_its_workers_name_and_is_documented(shared: Shared) -> None:
    found = figures(shared.client)
    worker = runtime_of(shared.app).worker
    assert all(worker in values for values in found.values())
    documented = set(re.findall(r"`(bytechat_\w+)`", (ROOT / "docs/operations.md").read_text()))
    assert {re.sub("_(sum|count)$", "", name) for name in found} == documented


def test_it_says_what_the_worker_has_and_what_is_left(shared: Shared) -> None:
    runtime = runtime_of(shared.app)
    worker = runtime.worker
    before = figures(shared.client)
    assert before["bytechat_sockets"][worker] == 0
    runtime.take_seat()
    passwords._under_way.append(None)
    runtime.neighbours.sockets = {"another": 7}
    with shared.app.app_context(), reading():
        after = figures(shared.app.test_client())
    runtime.leave_seat()
    passwords._under_way.pop()
    runtime.neighbours.sockets = {}
    assert after["bytechat_sockets"] == {worker: 0, "another": 7}
    assert after["bytechat_seats_left"][worker] == before["bytechat_seats_left"][worker] - 1
    assert after["bytechat_hash_queue"][worker] == 1
    assert after["bytechat_database_pool_in_use"][worker] == 1
    assert before["bytechat_database_pool_in_use"][worker] == 0


def test_it_names_no_people(shared: Shared) -> None:
    text = shared.client.get("/metrics").get_data(as_text=True)
    assert "alice" not in text
    assert "lobby" not in text
