"""The cookie session of pages: out of reach of scripts, and of no use to another site."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from bytechat.security import CONTENT_SECURITY_POLICY

from ..conftest import MakeApp
from .problems import problem

ALICE = {"username": "alice", "password": "123456"}
SESSION, CSRF = "bytechat_session", "bytechat_csrf"
HTTPS = "https://chat.example"


def sign_in(client: FlaskClient, **request: Any) -> TestResponse:
    client.post("/register", json=ALICE)
    answer = client.post("/login", json={**ALICE, "session": "cookie"}, **request)
    assert answer.status_code == 200
    return answer


def cookies(answer: TestResponse) -> dict[str, tuple[str, dict[str, str]]]:
    """By name: the value, and the attributes in lower case."""
    found = {}
    for header in answer.headers.getlist("Set-Cookie"):
        pair, *rest = header.split("; ")
        name, _, value = pair.partition("=")
        attributes = dict(attribute.lower().partition("=")[::2] for attribute in rest)
        found[name] = (value, attributes)
    return found


def value(client: FlaskClient, name: str, domain: str = "localhost") -> str:
    cookie = client.get_cookie(name, domain)
    assert cookie
    return cookie.value


def test_the_token_is_in_a_cookie_and_nowhere_in_the_body(client: FlaskClient) -> None:
    answer = sign_in(client)
    assert set(answer.get_json()) == {"expires_in", "user"}
    token, _ = cookies(answer)[SESSION]
    assert token.startswith("eyJ")
    assert token not in answer.get_data(as_text=True)


def test_scripts_cannot_read_the_session_and_can_read_what_proves_the_page(
    client: FlaskClient,
) -> None:
    found = cookies(sign_in(client))
    assert set(found) == {SESSION, CSRF}
    assert "httponly" in found[SESSION][1]
    assert "httponly" not in found[CSRF][1]
    assert found[CSRF][0] not in found[SESSION][0]
    for _, attributes in found.values():
        assert attributes["samesite"] == "lax"
        assert attributes["path"] == "/"
        assert "domain" not in attributes


def test_the_cookies_last_as_long_as_the_token(make_app: MakeApp) -> None:
    answer = sign_in(make_app(token_hours=2).test_client())
    assert answer.get_json()["expires_in"] == 7200
    assert [attributes["max-age"] for _, attributes in cookies(answer).values()] == ["7200"] * 2


def test_over_https_the_cookies_are_never_sent_without_it(client: FlaskClient) -> None:
    plain = cookies(sign_in(client))
    secure = cookies(sign_in(client, base_url=HTTPS))
    assert all("secure" not in attributes for _, attributes in plain.values())
    assert all("secure" in attributes for _, attributes in secure.values())


@pytest.mark.parametrize("proxies", [0, 1])
def test_a_proxy_says_that_it_is_https_only_if_it_is_trusted(
    make_app: MakeApp, proxies: int
) -> None:
    client = make_app(trusted_proxies=proxies).test_client()
    found = cookies(sign_in(client, headers={"X-Forwarded-Proto": "https"}))
    assert all(("secure" in attributes) == bool(proxies) for _, attributes in found.values())


def test_the_cookie_is_enough_to_read(client: FlaskClient) -> None:
    sign_in(client)
    assert client.get("/profile").get_json()["username"] == "alice"
    assert client.get("/rooms/lobby/messages").status_code == 200


def test_to_change_something_the_page_must_prove_that_it_is_ours(client: FlaskClient) -> None:
    sign_in(client)
    other = client.application.test_client()
    sign_in(other)
    wrong = [{}, {"X-CSRF-TOKEN": ""}, {"X-CSRF-TOKEN": "x"}, {"X-CSRF-TOKEN": value(other, CSRF)}]
    for headers in (*wrong, {"X-CSRF-TOKEN": "é"}):
        problem(client.post("/logout", headers=headers), 401, "csrf_failed")
    for body in ({"csrf_token": value(client, CSRF)}, {"X-CSRF-TOKEN": value(client, CSRF)}):
        problem(client.post("/logout", data=body), 401, "csrf_failed")
    assert client.get("/profile").status_code == 200, "it is still signed in"
    answer = client.post("/logout", headers={"X-CSRF-TOKEN": value(client, CSRF)})
    assert answer.get_json() == {"revoked": 1}


def test_signing_out_clears_the_cookies_and_ends_the_token(client: FlaskClient) -> None:
    sign_in(client)
    token = value(client, SESSION)
    answer = client.post("/logout", headers={"X-CSRF-TOKEN": value(client, CSRF)})
    for cleared, attributes in cookies(answer).values():
        assert cleared == ""
        assert "1970" in attributes["expires"]
        assert attributes["path"] == "/"
    assert set(cookies(answer)) == {SESSION, CSRF}
    assert client.get_cookie(SESSION) is None
    problem(client.get("/profile"), 401, "not_authenticated")
    client.set_cookie(SESSION, token)
    problem(client.get("/profile"), 401, "token_revoked")
    bearer = {"Authorization": f"Bearer {token}"}
    problem(client.application.test_client().get("/profile", headers=bearer), 401, "token_revoked")


def test_a_token_in_the_header_counts_before_the_cookie(app: Flask, client: FlaskClient) -> None:
    sign_in(client)
    bob = {"username": "bob", "password": "123456"}
    other = app.test_client()
    other.post("/register", json=bob)
    token = other.post("/login", json=bob).get_json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/profile", headers=headers).get_json()["username"] == "bob"


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "null", "é"])
def test_a_broken_cookie_is_told_and_does_not_keep_one_from_signing_in_again(
    client: FlaskClient, cookie: str
) -> None:
    client.set_cookie(SESSION, cookie)
    assert client.get("/profile").status_code == 401
    sign_in(client)
    assert client.get("/profile").status_code == 200


def test_pages_of_other_sites_get_no_permission_to_read(client: FlaskClient) -> None:
    sign_in(client)
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS"):
        answer = client.open("/profile", method=method, headers=headers)
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    assert "form-action 'self'" in CONTENT_SECURITY_POLICY
