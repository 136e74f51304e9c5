"""gunicorn.conf.py: each setting that keeps a trap shut, and that it does so."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from typing import Any

import pytest
import requests

from bytechat.serving import Worker
from tests.live.conftest import StartServer
from tests.support.databases import ROOT, SECRET, Databases
from tests.support.people import Person
from tests.support.raw import TEXT, RawClient, handshake
from tests.support.server import Server


def conf(monkeypatch: pytest.MonkeyPatch, **environ: str) -> dict[str, Any]:
    """What gunicorn.conf.py sets in this environment."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


def gunicorn(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run gunicorn where it should not even start."""
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", *options],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("worker_class", Worker, "a thread for each socket would not do"),
        ("reuse_port", False, "a worker that ends would take along what waits for it"),
        ("preload_app", False, "the application must be imported after the patching"),
        ("max_requests", 0, "a worker that restarts by itself is an outage with sockets open"),
        ("control_socket_disable", True, "gunicorn 27 would open a socket in $HOME"),
        ("forwarded_allow_ips", "", "TRUSTED_PROXIES alone says who is believed"),
    ],
)
def test_a_setting_that_must_stay(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, why: str
) -> None:
    assert conf(monkeypatch)[name] == value, why


def test_there_is_a_deadline_for_heads_and_a_stop_is_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = conf(monkeypatch)
    assert settings["keepalive"] > 0, "0 takes away the deadline of a request's head"
    assert settings["keepalive"] < 3, "a stop waits for idle connections"
    assert settings["graceful_timeout"] <= 25, "Heroku and Render kill after 30 s"


def test_the_request_line_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    form = conf(monkeypatch)["access_log_format"]
    assert not {"%(r)s", "%(q)s", "%(f)s"} & set(form.replace('"', " ").split())


def test_settings_of_the_environment_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = conf(
        monkeypatch,
        DATABASE_URL="postgres://localhost/x",
        JWT_SECRET_KEY=SECRET,
        WEB_CONCURRENCY="3",
        PORT="9000",
        HOST="::1",
        WORKER_CONNECTIONS="500",
    )
    assert (settings["workers"], settings["worker_connections"]) == (3, 500)
    assert settings["bind"] == "[::1]:9000"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"PORT": "many"}, "PORT takes a port, 1 to 65535."),
        ({"WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY over 1 needs PostgreSQL"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY takes at least 32 bytes"),
        ({"DATABASE_URL": "postgresql://x/y"}, "JWT_SECRET_KEY must be set"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_line(
    environ: dict[str, str], sentence: str
) -> None:
    ended = gunicorn(**environ)
    assert ended.returncode != 0
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_tls_is_refused_as_frames_would_go_out_unencrypted() -> None:
    ended = gunicorn("--certfile", "LICENSE", "--keyfile", "LICENSE")
    assert ended.returncode != 0
    assert "ByteChat leaves TLS to a proxy" in ended.stderr


def test_the_standard_library_is_patched_before_the_application_is_imported(
    databases: Databases,
) -> None:
    with Server(databases.fresh("sqlite"), PYTHONWARNINGS="default") as server:
        Person(server).talk().close()
        assert "MonkeyPatchWarning" not in server.lines()


def test_two_workers_on_postgresql_hear_each_other(databases: Databases) -> None:
    with Server(databases.fresh("postgresql"), WEB_CONCURRENCY="2") as server:
        alice = Person(server)
        talks = [alice.talk() for _ in range(12)]
        assert len({talk.hello["worker"] for talk in talks}) == 2, "both have sockets"
        for number, talk in enumerate(talks):
            talk.send(type="send", room=1, text=f"from {number}", client_id=f"c{number}")
        for talk in talks:
            got = [talk.next("message") for _ in talks]
            assert [m["rev"] for m in got] == list(range(1, len(talks) + 1))
        alice.post("/logout")
        assert {talk.closed(3) for talk in talks} == {4401}, "on both workers"


@pytest.mark.any_database
@pytest.mark.parametrize(("hops", "address"), [("0", "127.0.0.1"), ("1", "203.0.113.9")])
def test_the_address_of_a_client_is_taken_from_trusted_proxies_only(
    start_server: StartServer, hops: str, address: str
) -> None:
    server = start_server(TRUSTED_PROXIES=hops)
    alice = Person(server)
    client = RawClient(server, alice.token, X_Forwarded_For="203.0.113.9")
    client.next(TEXT)
    client.sock.close()
    line = next(x for x in server.lines().splitlines() if 'msg="socket opened"' in x)
    assert f"address={address}" in line


@pytest.mark.any_database
def test_a_proxy_that_ends_tls_may_hide_the_scheme(start_server: StartServer) -> None:
    server = start_server(TRUSTED_PROXIES="1")
    alice = Person(server)
    proxied = {"X_Forwarded_Host": "chat.example", "X_Forwarded_Proto": "https"}
    own, other = "https://chat.example", "https://evil.example"
    assert handshake(server, alice.token, Origin=own, **proxied)[0] == 101
    assert handshake(server, alice.token, Origin=other, **proxied)[0] == 403
    login = requests.post(
        f"{server.url}/login",
        json={"username": alice.name, "password": "123456", "session": "cookie"},
        headers={"X-Forwarded-Proto": "https"},
        timeout=10,
    )
    assert "Secure" in login.headers["Set-Cookie"]


def test_flask_run_serves_sockets_too(databases: Databases) -> None:
    with Server(databases.fresh("sqlite"), command="flask run") as server:
        alice, bob = Person(server), Person(server, "bob")
        with alice.talk() as a, bob.talk() as b:
            a.say("without gunicorn")
            assert b.next("message")["text"] == "without gunicorn"
            alice.post("/logout")
            assert a.closed() == 4401
            assert b.alive()
        handshake(server, path=f"/ws?token={alice.token}")
        assert alice.token not in server.lines()
        assert "Traceback" not in server.lines()


def test_procfile_migrates_then_serves() -> None:
    procfile = dict(line.split(": ") for line in (ROOT / "Procfile").read_text().splitlines())
    assert procfile == {"release": "flask db upgrade", "web": "gunicorn"}
