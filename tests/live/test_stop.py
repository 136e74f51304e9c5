"""Stopping, being killed, and coming back."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from websockets.sync.client import connect

from tests.live.conftest import StartServer, check_log
from tests.support.people import Person
from tests.support.raw import TEXT, RawClient, encode, handshake
from tests.support.server import Server

#: What a stop may take, with idle HTTP connections and a stalled socket about: it takes 2 to 4 s,
#: and 11 or 20 s if one of its remedies is gone. The rest is for busy machines.
STOP_MAX = 8.0


def hung_up(sock: socket.socket) -> bool:
    """Whether the other side ends the connection without a word."""
    try:
        return sock.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_sigterm_says_goodbye_closes_with_1012_and_is_soon_over(start_server: StartServer) -> None:
    server = start_server()
    alice, bob = Person(server), Person(server, "bob")
    idle = requests.Session()  # a browser keeps its connection open
    idle.get(f"{server.url}/healthz")
    stalled = RawClient(server, bob.token)  # never reads its goodbye, never hangs up
    with alice.talk() as talk, ThreadPoolExecutor(1) as pool:
        acked = talk.say("the last word")
        stop = pool.submit(server.terminate)
        goodbye = talk.next("goodbye")
        assert 0 < goodbye["retry_after"] <= 3
        assert talk.closed() == 1012
        assert stop.result() < STOP_MAX
    idle.close()
    stalled.sock.close()
    check_log(server)
    server.start()
    assert alice.history()[-1]["id"] == acked["id"]


@pytest.mark.any_database
@pytest.mark.parametrize("slow", ["body", "reader"])
def test_a_slow_http_client_does_not_hold_up_a_stop(start_server: StartServer, slow: str) -> None:
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        if slow == "body":
            client.sendall(
                b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
        else:
            client.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        time.sleep(0.2)  # until the request is being served
        assert server.terminate() < STOP_MAX


@pytest.mark.any_database
def test_ctrl_c_is_a_stop_like_any_other(start_server: StartServer) -> None:
    server = start_server()
    with Person(server).talk() as talk, ThreadPoolExecutor(1) as pool:
        stop = pool.submit(server.interrupt)
        talk.next("goodbye")
        assert talk.closed() == 1012
        assert stop.result() < STOP_MAX
    check_log(server)


def test_what_was_acked_is_there_after_a_kill(start_server: StartServer) -> None:
    server = start_server()
    alice = Person(server)
    with alice.talk() as talk:
        acked = [talk.say(f"before the kill {number}")["id"] for number in range(50)]
        unacked = [f"u{number}" for number in range(50)]
        for client_id in unacked:
            talk.send(type="send", room=1, text=client_id, client_id=client_id)
        server.kill()
    server.start()
    assert [m["id"] for m in alice.history() if m["id"] in set(acked)] == acked
    with alice.talk() as talk:  # what was not acked is sent again: each is there once
        for client_id in unacked:
            talk.say(client_id, client_id)
    history = alice.history()
    assert sorted(m["text"] for m in history if m["text"] in unacked) == sorted(unacked)
    assert [m["seq"] for m in history] == list(range(1, 101))


@pytest.mark.one_worker
def test_a_worker_that_dies_is_replaced(start_server: StartServer) -> None:
    server = start_server()
    alice = Person(server)
    (worker,) = server.workers
    worker.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with alice.talk() as talk:
                talk.say("back again")
                break
        except OSError:
            time.sleep(0.1)
    assert alice.history()[-1]["text"] == "back again"


@pytest.mark.one_worker
@pytest.mark.any_database
def test_a_full_worker_refuses_sockets_and_still_answers_http(start_server: StartServer) -> None:
    server = start_server(WORKER_CONNECTIONS="200")  # 100 of them for sockets
    alice = Person(server)
    clients = [RawClient(server, alice.token) for _ in range(100)]
    assert {client.status for client in clients} == {101}
    refused = RawClient(server, alice.token)
    assert refused.status == 503
    assert b"Retry-After: " in refused.head
    assert requests.get(f"{server.url}/healthz", timeout=5).ok
    for client in clients[:10]:
        client.sock.close()
    deadline = time.monotonic() + 5
    while handshake(server, alice.token)[0] != 101:
        assert time.monotonic() < deadline, "places are given back"
    for client in [*clients, refused]:
        client.sock.close()


def test_sockets_hold_no_database_connection(start_server: StartServer) -> None:
    server = start_server(DATABASE_POOL="2")
    alice = Person(server)
    talks = [alice.talk() for _ in range(20)]
    talks[0].say("all of them hear it")
    for talk in talks:
        assert talk.next("message")["text"] == "all of them hear it"
        talk.close()


@pytest.mark.any_database
def test_a_stalled_reader_is_closed_with_4408_and_costs_the_others_nothing(
    start_server: StartServer,
) -> None:
    server = start_server(OUTBOX_MAX="1000000")
    alice, mallory = Person(server), Person(server, "mallory")
    stalled = RawClient(server, mallory.token)
    text = "x" * 4000
    with alice.talk() as talk:
        for number in range(3000):
            talk.send(type="send", room=1, text=text, client_id=f"s{number}")
            if number % 100 == 99:
                while talk.next("message")["client_id"] != f"s{number}":
                    pass
            if "user=mallory" in server.lines() and "code=4408" in server.lines():
                break
        assert talk.alive()
    revs = []
    while (frame := stalled.next()).opcode == TEXT:  # what it reads at last is whole frames
        if b'"type":"message"' in frame.payload:
            revs.append(int(frame.payload.split(b'"rev":')[1].split(b",")[0]))
    assert int.from_bytes(frame.payload[:2], "big") == 4408
    assert revs == list(range(1, len(revs) + 1))
    stalled.sock.close()


#: Longer than anybody else may wait for an answer meanwhile.
FLOOD_SECONDS, WAIT_MAX = 1.5, 1.0

FLOODS = {
    "pings": encode(9),
    "pongs": encode(10),
    "texts": encode(TEXT, b"{"),
    "syncs": encode(TEXT, b'{"type":"sync","room":1,"since":0}'),
    "empty fragments": encode(TEXT, b"", fin=False) + encode(0, b"", fin=False) * 100,
}


@pytest.mark.one_worker
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_peer_that_floods_does_not_have_the_worker_for_itself(
    server: Server, flood: bytes
) -> None:
    alice, mallory = Person(server), Person(server, "mallory")
    with alice.talk() as talk:
        missing = range(talk.hello["rooms"][0]["head"], 500)  # that the syncs may have something
        for number in missing:
            talk.send(type="send", room=1, text=f"{number}", client_id=f"m{number}")
        for _ in missing:
            talk.next("ack")
    raw = RawClient(server, mallory.token)
    raw.sock.settimeout(1)  # nobody may be reading any more
    with alice.talk() as talk, ThreadPoolExecutor(2) as pool:
        ended = time.monotonic() + FLOOD_SECONDS

        def read() -> None:
            with contextlib.suppress(OSError):
                while raw.sock.recv(1_000_000) and time.monotonic() < ended:
                    pass

        def push() -> None:
            with contextlib.suppress(OSError):
                while time.monotonic() < ended:
                    raw.sock.sendall(flood * 5000)

        pool.submit(read)
        pushing = pool.submit(push)
        longest = 0.0
        while not pushing.done():
            began = time.monotonic()
            assert talk.alive()
            longest = max(longest, time.monotonic() - began)
        assert longest < WAIT_MAX  # without turns she waits until mallory is tired, and longer
    raw.sock.close()


@pytest.mark.any_database
def test_a_silent_peer_is_pinged_and_then_let_go(start_server: StartServer) -> None:
    server = start_server(PING_EVERY="0.5")
    alice = Person(server)
    silent = RawClient(server, alice.token)
    with alice.talk() as talk:  # answers its pings by itself
        assert silent.next(9).payload == b""
        assert silent.closed() == 1001
        assert talk.alive()
    silent.sock.close()


@pytest.mark.any_database
def test_a_request_whose_head_never_ends_is_hung_up(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        assert hung_up(slow)


@pytest.mark.any_database
def test_a_body_that_never_comes_gets_408(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as slow:
        slow.sendall(
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.one_worker
@pytest.mark.any_database
def test_other_people_talk_on_while_passwords_are_hashed(start_server: StartServer) -> None:
    server = start_server(BCRYPT_ROUNDS="10")  # 70 ms each
    alice = Person(server)
    wrong = {"username": alice.name, "password": "wrong!"}

    def log_in(_: int) -> int:
        return requests.post(f"{server.url}/login", json=wrong, timeout=30).status_code

    with alice.talk() as talk, ThreadPoolExecutor(8) as pool:
        logins = [pool.submit(log_in, number) for number in range(8)]
        answered = 0
        while not all(login.done() for login in logins):
            assert talk.alive()
            answered += 1
    assert {login.result() for login in logins} == {401}
    # Were the hashes made on the event loop, there would be a chance for one or two after each.
    assert answered > 40


@pytest.mark.one_worker
@pytest.mark.any_database
def test_more_logins_than_can_wait_are_told_to_come_again(start_server: StartServer) -> None:
    server = start_server(BCRYPT_ROUNDS="11")  # 140 ms each: 30 logins are there much sooner
    body = {"username": "nobody-here", "password": "123456"}

    def log_in(_: int) -> requests.Response:
        return requests.post(f"{server.url}/login", json=body, timeout=30)

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(log_in, range(30)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert all(answer.json()["code"] == "busy" for answer in refused)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)


@pytest.mark.any_database
def test_the_log_level_holds_for_gunicorn_too(start_server: StartServer) -> None:
    server = start_server(LOG_LEVEL="error")
    Person(server).talk().close()
    server.terminate()
    assert [line for line in server.lines().splitlines() if "level=" in line] == []


def test_the_log_tells_of_sockets_and_never_of_tokens_or_texts(start_server: StartServer) -> None:
    server = start_server()
    alice = Person(server)
    with connect(f"{server.ws_url}?token={alice.token}") as ws:
        ws.recv(10)
        ws.send("a text that is nobody's business")
        ws.recv(10)
    requests.get(f"{server.url}/nowhere?token={alice.token}", timeout=5)
    requests.get(f"{server.url}/ws?token={alice.token}", timeout=5)
    RawClient(server, path=f"/ws?token={alice.token}", Sec_WebSocket_Key="bad").sock.close()
    with socket.create_connection(("127.0.0.1", server.port), 10) as broken:
        broken.sendall(f"GET /ws?token={alice.token} HTTP/1.1\r\nbad header\r\n\r\n".encode())
        broken.recv(1000)
    server.terminate()
    log = server.lines()
    opened = next(line for line in log.splitlines() if 'msg="socket opened"' in line)
    closed = next(line for line in log.splitlines() if 'msg="socket closed"' in line)
    for line in (opened, closed):
        assert f"user={alice.name}" in line
        assert "address=127.0.0.1" in line
    assert "code=1000" in closed
    assert alice.token not in log
    assert alice.token.split(".")[1] not in log
    assert "nobody's business" not in log
