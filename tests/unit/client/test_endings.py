"""How a connection ends, and what the client makes of it: come back, or give up and say why."""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from bytechat.client import (
    Client,
    ClientBug,
    Closed,
    Connected,
    Disconnected,
    Event,
    Forbidden,
    GaveUp,
    Message,
    Refused,
    SignInAgain,
)
from bytechat.client.retry import Backoff, End, wait_after

from ...support.clients import SECONDS, TOKEN, take, threads_of_clients, wait_for
from ...support.fake_server import BOB, FakeServer, problem


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1002, ClientBug),
        (1007, ClientBug),
        (1009, ClientBug),
        (4401, SignInAgain),
        (4403, Forbidden),
    ],
)
def test_codes_that_say_so_end_the_client_for_everybody(
    server: FakeServer, alice: Client, code: int, error: type[GaveUp]
) -> None:
    server.say("last words")
    server.intercept = lambda _socket, _frame: True
    sent = alice.send("lobby", "never")
    server.cut(code)
    with pytest.raises(error) as raised:
        sent.result(SECONDS)
    assert raised.value.close_code == code
    events = alice.events()
    with pytest.raises(error):
        list(events)
    with pytest.raises(error):
        alice.send("lobby", "too late")
    with pytest.raises(error):
        alice.connected()
    alice.close()
    assert len(server.requests) == 1


def test_who_waits_for_a_place_or_for_all_acks_is_told_of_the_end(server: FakeServer) -> None:
    """What the end has emptied is not what was acked, and has no place for more."""
    server.intercept = lambda _socket, _frame: True
    ended: list[type[GaveUp]] = []

    def wait_with(call: Callable[[], object]) -> None:
        with pytest.raises(GaveUp) as raised:
            call()
        ended.append(raised.type)

    with closing(Client(server.url, TOKEN, window=1)) as client:
        client.connected(SECONDS)
        client.send("lobby", "never")
        calls: list[Callable[[], object]] = [lambda: client.send("lobby", "more"), client.flush]
        waiting = [threading.Thread(target=wait_with, args=(call,)) for call in calls]
        for thread in waiting:
            thread.start()
            thread.join(0.1)
        server.cut(4401)
        for thread in waiting:
            thread.join(SECONDS)
        assert ended == [SignInAgain, SignInAgain]
        with pytest.raises(SignInAgain):
            client.flush()


def test_what_came_before_the_end_is_still_given(server: FakeServer, alice: Client) -> None:
    server.say("last words")
    server.cut(4403)
    got: list[Event] = []
    with pytest.raises(Forbidden):
        got.extend(alice.events())
    assert [event.text for event in got if isinstance(event, Message)] == ["last words"]


@pytest.mark.parametrize("code", [1000, 1001, None, 1011, 1012, 4408])
def test_other_codes_are_a_reason_to_come_back(
    server: FakeServer, alice: Client, code: int | None
) -> None:
    wait_for(alice, Connected)
    server.cut(code)
    assert wait_for(alice, Disconnected).code == (code or 1006)
    wait_for(alice, Connected)
    server.say("back")
    assert [m.text for m in take(alice, 1)] == ["back"]


def test_a_goodbye_says_when_to_come_back(server: FakeServer, alice: Client) -> None:
    server.to_all({"type": "goodbye", "retry_after": 0.321})
    server.cut(1012)
    assert wait_for(alice, Disconnected).wait == 0.321
    wait_for(alice, Connected)


@pytest.mark.parametrize(("code", "seconds"), [(4400, 60), (4429, 5)])
def test_who_was_sent_away_stays_away_and_may_still_be_closed(
    server: FakeServer, alice: Client, code: int, seconds: float
) -> None:
    server.cut(code)
    assert wait_for(alice, Disconnected).wait >= seconds
    alice.close(timeout=0)  # does not wait for that
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "some_code", SignInAgain),
        (401, "account_disabled", Forbidden),
        (403, "some_code", Forbidden),
        (400, "some_code", ClientBug),
        (426, "some_code", ClientBug),
    ],
)
def test_a_socket_that_is_refused_for_good_ends_the_client(
    server: FakeServer, status: int, code: str, error: type[GaveUp]
) -> None:
    server.refusals = [problem(status, code)]
    with closing(Client(server.url, TOKEN)) as client:
        with pytest.raises(error, match=code) as raised:
            client.connected(SECONDS)
        assert (raised.value.status, raised.value.code) == (status, code)
    assert len(server.requests) == 1


def test_a_socket_that_is_refused_for_now_is_asked_for_later(server: FakeServer) -> None:
    server.refusals = [problem(503, "unavailable", Retry_After="0"), problem(502, "bad_gateway")]
    with closing(Client(server.url, TOKEN)) as client:
        client.connected(SECONDS)
    assert len(server.requests) == 3


def test_a_server_of_another_protocol_is_not_tried_again(server: FakeServer) -> None:
    with closing(Client(server.url, TOKEN)) as client:
        client.connected(SECONDS)
        server.to_all({"type": "hello", "protocol": 2, "user": BOB})
        with pytest.raises(ClientBug, match="version 2"):
            list(client.events())


def test_a_frame_that_cannot_be_read_is_not_tried_again(server: FakeServer, alice: Client) -> None:
    server.to_all({"type": "message", "rev": "?"})
    with pytest.raises(ClientBug, match="strange frame"):
        list(alice.events())


def test_a_dead_connection_is_noticed() -> None:
    """A peer that has said hello, and then nothing more, not even a pong."""
    accepted: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        accepted.append(peer)
        request = peer.recv(65536).decode()
        key = request.lower().partition("sec-websocket-key: ")[2]
        key = request[len(request) - len(key) :].partition("\r\n")[0]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        peer.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        hello = b'{"type":"hello","protocol":1,"user":{"id":1,"username":"alice"}}'
        peer.sendall(bytes([0x81, len(hello)]) + hello)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with closing(Client(url, TOKEN, ping_every=0.2)) as client:
            client.connected(SECONDS)
            thread.join()
            assert wait_for(client, Disconnected).code == 1011
            listener.close()
            client.close(timeout=0)
    for peer in accepted:
        peer.close()


def test_the_token_is_in_a_header_and_nowhere_else(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.refusals = [problem(503, "unavailable", Retry_After="0")]
    client = Client(server.url, TOKEN)
    client.connected(SECONDS)
    client.history("lobby")
    server.cut(4401)
    with pytest.raises(SignInAgain) as raised:
        list(client.events())
    assert TOKEN not in repr(client) + repr(raised.value) + str(raised.value)
    lines = [r.getMessage() for r in caplog.records if not r.name.startswith("websockets.server")]
    assert "urllib3" in caplog.text
    assert not any(TOKEN in line for line in lines)
    client.close()
    request = server.requests[-1]
    assert request.path == "/ws"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"


def test_close_ends_all_threads_and_says_so_to_who_waits(server: FakeServer) -> None:
    server.intercept = lambda _socket, _frame: True
    before = set(threading.enumerate())
    client = Client(server.url, TOKEN)
    client.connected(SECONDS)
    waiting: list[object] = []
    reader = threading.Thread(target=lambda: waiting.append(list(client.messages())))
    reader.start()
    sent = client.send("lobby", "unheard")
    client.close(timeout=0)
    with pytest.raises(Closed):
        sent.result(SECONDS)
    reader.join(SECONDS)
    assert waiting == [[]]
    with pytest.raises(Closed):
        client.send("lobby", "too late")
    with pytest.raises(Closed):
        client.receive()
    client.close()
    assert threads_of_clients() == set()
    for thread in set(threading.enumerate()) - before:  # the library's, and the fake server's
        thread.join(SECONDS)
    assert set(threading.enumerate()) <= before


def test_a_lost_connection_is_not_taken_for_one(server: FakeServer, alice: Client) -> None:
    assert repr(alice) == f"<Client {server.url} connected>"
    server.stop()
    wait_for(alice, Disconnected)
    assert repr(alice) == f"<Client {server.url} connecting>"
    with pytest.raises(TimeoutError):
        alice.connected(0.05)
    server.start()
    alice.connected(SECONDS)


def test_close_works_while_nobody_answers(server: FakeServer) -> None:
    server.stop()
    client = Client(server.url, TOKEN)
    assert wait_for(client, Disconnected).code is None
    client.close(timeout=0)
    assert threads_of_clients() == set()
    server.start()


@pytest.mark.parametrize(
    "url",
    ["localhost:8080", "ftp://here", "http://", "http://a:b@here", "http://here/?token=x"],
)
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url, TOKEN)


def test_pauses_grow_to_a_bound_and_are_partly_random() -> None:
    backoff = Backoff(0.5, 15)
    tops = [0.5, 1, 2, 4, 8, 15, 15, 15]
    waits = [backoff.next() for _ in tops]
    assert all(top / 2 <= wait <= top for wait, top in zip(waits, tops, strict=True))
    backoff.reset()
    assert backoff.next() <= 0.5
    assert len({Backoff(0.5, 15).next() for _ in range(20)}) > 1


def test_what_the_server_asks_for_is_waited_at_least() -> None:
    assert wait_after(End("full", 503, 5.0), Backoff(0.5, 15)) > 5
    assert wait_after(End("restart", 1012, 0.7, jittered=True), Backoff(0.5, 15)) == 0.7


def test_a_call_over_http_leaves_no_connection_behind(server: FakeServer, alice: Client) -> None:
    before = set(threading.enumerate())
    server.history_refusals = [problem(404, "not_found")]
    with pytest.raises(Refused) as refused:
        alice.history("lobby")
    alice.history("lobby")
    for thread in set(threading.enumerate()) - before:  # the server's, one for each connection
        thread.join(SECONDS / 2)
        assert not thread.is_alive()
    assert refused.value.status == 404  # kept until here, with all that its traceback holds
