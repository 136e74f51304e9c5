"""Every address needs a token, but those that are said here to need none."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask

from ..conftest import MakeApp
from .conftest import Shared
from .problems import problem

PUBLIC = {
    ("POST", "/register"),
    ("POST", "/login"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/"),
    ("GET", "/static/<path:filename>"),
}
#: Checks its token itself, after the handshake.
SOCKET = ("GET", "/ws")

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield method, rule.rule


def test_every_route_needs_a_token_but_those_that_are_public(shared: Shared) -> None:
    guarded = set(routes(shared.app)) - PUBLIC - {SOCKET}
    assert guarded
    for method, rule in guarded:
        path = rule.replace("<room>", "lobby")
        assert "<" not in path, "say here what to put in its place"
        for given in (method, "HEAD") if method == "GET" else (method,):
            answer = shared.client.open(path, method=given)
            assert answer.status_code == 401, (given, path)
        problem(shared.client.open(path, method=method), 401, "not_authenticated")


def test_the_public_routes_are_there_and_need_none(shared: Shared) -> None:
    assert set(routes(shared.app)) >= PUBLIC
    for method, rule in PUBLIC:
        path = rule.replace("<path:filename>", "page.js")
        assert shared.client.open(path, method=method, buffered=True).status_code in (200, 415)


def test_where_guests_are_welcome_a_bad_token_makes_nobody_a_guest(make_app: MakeApp) -> None:
    client = make_app(guests=True).test_client()
    for headers in ({"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic YTpi"}):
        answer = client.get("/ws", headers={**HANDSHAKE, **headers})
        assert answer.status_code == 401
    assert client.get("/ws?token=", headers=HANDSHAKE).status_code == 401
    client.set_cookie("bytechat_session", "x.y.z")
    assert client.get("/ws", headers=HANDSHAKE).status_code == 401
    assert client.get("/profile").status_code == 401


def test_the_socket_needs_a_token_before_anything_is_upgraded(shared: Shared) -> None:
    assert SOCKET in set(routes(shared.app))
    problem(shared.client.get("/ws", headers=HANDSHAKE), 401, "not_authenticated")
    headers = {**HANDSHAKE, "Authorization": "Bearer x.y.z"}
    problem(shared.client.get("/ws", headers=headers), 401, "invalid_token")
    problem(shared.client.get("/ws?token=x.y.z", headers=HANDSHAKE), 401, "invalid_token")
