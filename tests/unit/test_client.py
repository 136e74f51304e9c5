"""The client against a fake server that goes wrong in each of the ways that real ones do."""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import TypeVar

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
    Reset,
    SignInAgain,
)
from bytechat.client.retry import Backoff, End, wait_after

from ..support.fake_server import BOB, ROOM, FakeServer, Frame, problem

SECONDS = 10
TOKEN = "eyJ-the-secret-token"
E = TypeVar("E", bound=Event)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are tested by their numbers, not by waiting."""
    monkeypatch.setattr("bytechat.client.retry.FIRST_WAIT", 0.05)
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


def take(client: Client, number: int) -> list[Message]:
    """The next changes; what else happens is passed over."""
    got: list[Message] = []
    while len(got) < number:
        event = client.receive(SECONDS)
        if isinstance(event, Message):
            got.append(event)
    return got


def wait_for(client: Client, kind: type[E]) -> E:
    while True:
        event = client.receive(SECONDS)
        if isinstance(event, kind):
            return event


def revs(messages: list[Message]) -> list[int]:
    return [m.rev for m in messages]


def test_what_is_sent_is_acked_and_comes_back(server: FakeServer, alice: Client) -> None:
    ack = alice.send("lobby", "hello", client_id="c1").result(SECONDS)
    assert (ack.client_id, ack.seq, ack.room) == ("c1", 1, ROOM)
    (hello,) = take(alice, 1)
    assert (hello.text, hello.client_id, hello.changed) == ("hello", "c1", False)
    assert alice.user is not None
    assert alice.user.username == "alice"
    assert list(alice.rooms) == [ROOM]


def test_a_client_id_is_another_one_each_time_unless_it_is_given(
    server: FakeServer, alice: Client
) -> None:
    handles = [alice.send("lobby", "same words") for _ in range(20)]
    assert len({handle.client_id for handle in handles}) == 20
    for handle in handles:
        handle.result(SECONDS)
    assert len(server.texts) == 20


def test_what_was_not_acked_is_sent_again_in_order_under_the_same_client_id(
    server: FakeServer, alice: Client
) -> None:
    server.acks_to_lose = 5
    handles = [alice.send("lobby", str(number)) for number in range(10)]
    handles[-1].result(SECONDS)
    assert not any(handle.done() for handle in handles[:5])
    sent = len(server.of_type("send"))
    server.cut()
    for handle in handles:
        handle.result(SECONDS)
    assert server.texts == [str(number) for number in range(10)]
    again = server.of_type("send")[sent:]
    assert [frame["client_id"] for frame in again] == [h.client_id for h in handles[:5]]


def test_what_is_said_while_the_server_is_away_is_sent_when_it_is_back(
    server: FakeServer, alice: Client
) -> None:
    server.stop()
    wait_for(alice, Disconnected)
    handles = [alice.send("lobby", str(number)) for number in range(10)]
    server.start()
    assert [handle.result(SECONDS).seq for handle in handles] == list(range(1, 11))
    assert server.texts == [str(number) for number in range(10)]


def test_a_reader_gets_each_change_once_in_order_across_breaks(
    server: FakeServer, alice: Client
) -> None:
    for number in range(40):
        if number % 10 == 5:
            server.cut(1001 if number % 20 == 5 else None)
        server.say(str(number))
    got = take(alice, 40)
    assert revs(got) == list(range(1, 41))
    assert [m.text for m in got] == [str(number) for number in range(40)]


def test_repeated_and_reordered_pushes_do_no_harm(server: FakeServer, alice: Client) -> None:
    held: list[Frame] = []

    def shuffle(frame: Frame) -> list[Frame]:
        """Every second frame comes after the next one, and each of them twice."""
        if frame["rev"] % 2:
            held.append(frame)
            return []
        return [frame, held[-1], frame, held[-1]]

    server.push = shuffle
    for _ in range(20):
        server.say()
    assert revs(take(alice, 20)) == list(range(1, 21))
    with pytest.raises(TimeoutError):
        alice.receive(0.1)


def test_a_lost_push_is_asked_for(server: FakeServer, alice: Client) -> None:
    server.push = lambda frame: [] if frame["rev"] in {2, 3, 4, 5, 6} else [frame]
    for _ in range(8):
        server.say()
    assert revs(take(alice, 8)) == list(range(1, 9))


def test_a_program_starts_where_it_left_off(server: FakeServer) -> None:
    for _ in range(10):
        server.say()
    server.change(2, text="changed")
    with closing(Client(server.url, TOKEN, since={"lobby": 4})) as client:
        got = take(client, 7)
        assert revs(got) == [5, 6, 7, 8, 9, 10, 11]
        assert (got[-1].id, got[-1].text, got[-1].changed) == (2, "changed", True)
        assert [frame["since"] for frame in server.of_type("sync")] == [4, 7, 10]
    with closing(Client(server.url, TOKEN, since={ROOM: 10})) as client:
        assert revs(take(client, 1)) == [11]


def test_without_a_position_a_program_starts_from_now_on(server: FakeServer) -> None:
    server.say("before")
    with closing(Client(server.url, TOKEN)) as client:
        client.connected(SECONDS)
        server.say("after")
        assert [m.text for m in take(client, 1)] == ["after"]


def test_positions_count_what_the_program_has_finished_with(
    server: FakeServer, alice: Client
) -> None:
    assert alice.positions == {ROOM: 0}
    server.say()
    server.say()
    take(alice, 1)
    assert alice.positions == {ROOM: 0}
    take(alice, 1)
    assert alice.positions == {ROOM: 1}


def test_what_is_pushed_during_a_sync_comes_after_it_and_once(server: FakeServer) -> None:
    for _ in range(6):
        server.say()
    pages = 0

    def speak_meanwhile(_socket: object, frame: Frame) -> bool:
        nonlocal pages
        if frame["type"] == "sync":
            pages += 1
            server.say("meanwhile")
            if pages == 2:
                server.change(1, text="changed meanwhile")
        return False

    server.intercept = speak_meanwhile
    with closing(Client(server.url, TOKEN, since={ROOM: 2})) as client:
        got = take(client, 5 + pages)
        seen = revs(got)
        while pages and seen[-1] < server.head:
            seen += revs(take(client, 1))
    assert seen == sorted(set(seen))
    assert {m["rev"] for m in server._log.values() if m["rev"] > 2} <= set(seen)


def test_who_is_too_far_behind_is_told_and_given_the_newest_page(server: FakeServer) -> None:
    server.reset_after = 60
    for _ in range(100):
        server.say()
    with closing(Client(server.url, TOKEN, since={ROOM: 3})) as client:
        reset = wait_for(client, Reset)
        assert (reset.room, reset.head) == (ROOM, 100)
        assert [m.seq for m in reset.messages] == list(range(51, 101))
        server.say("after")
        assert revs(take(client, 1)) == [101]
        assert client.positions == {ROOM: 100}


def test_a_log_that_has_gone_back_is_a_reset(server: FakeServer) -> None:
    """The server's database was restored from a backup: old positions mean nothing."""
    server.say("restored")
    with closing(Client(server.url, TOKEN, since={ROOM: 500})) as client:
        reset = wait_for(client, Reset)
        assert (reset.head, [m.text for m in reset.messages]) == (1, ["restored"])
        server.say("new")
        assert revs(take(client, 1)) == [2]


def test_a_sync_that_was_refused_for_now_is_asked_again(server: FakeServer) -> None:
    server.say()
    refused: list[Frame] = []

    def refuse_once(socket: object, frame: Frame) -> bool:
        if refused:
            return False
        refused.append(frame)
        server.to_all({"type": "error", "code": "unavailable", "detail": "No.", "retry_after": 0})
        return True

    server.intercept = refuse_once
    with closing(Client(server.url, TOKEN, since={ROOM: 0})) as client:
        assert revs(take(client, 1)) == [1]


@pytest.mark.parametrize("code", ["busy", "unavailable", "rate_limited"])
def test_what_is_refused_for_now_is_sent_again(
    server: FakeServer, alice: Client, code: str
) -> None:
    server.limits = {"text": 0, "rate": 1000}
    left = 3

    def refuse(_socket: object, frame: Frame) -> bool:
        nonlocal left
        left -= 1
        if left >= 0:
            error = {"type": "error", "code": code, "detail": "Later.", "retry_after": 0.05}
            server.to_all({**error, "client_id": frame["client_id"]})
        return left >= 0

    server.cut()  # a hello with these limits
    wait_for(alice, Disconnected)
    server.intercept = refuse
    handles = [alice.send("lobby", str(number)) for number in range(10)]
    for handle in handles:
        handle.result(SECONDS)
    assert sorted(server.texts) == [str(number) for number in range(10)]


def test_what_is_refused_for_good_raises_its_code_and_the_rest_goes_on(
    server: FakeServer, alice: Client
) -> None:
    def refuse(_socket: object, frame: Frame) -> bool:
        if frame["room"] == "nowhere":
            error = {"type": "error", "code": "not_found", "detail": "No such room."}
            server.to_all({**error, "client_id": frame["client_id"]})
            return True
        return False

    server.intercept = refuse
    nowhere, lobby = alice.send("nowhere", "a"), alice.send("lobby", "b")
    with pytest.raises(Refused, match="No such room") as refused:
        nowhere.result(SECONDS)
    assert (refused.value.code, refused.value.detail) == ("not_found", "No such room.")
    assert lobby.result(SECONDS).seq == 1


def test_a_text_over_the_limit_is_not_sent_where_it_would_close_the_socket(
    server: FakeServer, alice: Client
) -> None:
    long, short = alice.send("lobby", "x" * 100_000), alice.send("lobby", "short")
    with pytest.raises(Refused, match="4000 characters"):
        long.result(SECONDS)
    short.result(SECONDS)
    assert [frame["text"] for frame in server.of_type("send")] == ["short"]


def test_a_full_window_makes_senders_wait(server: FakeServer) -> None:
    server.intercept = lambda _socket, _frame: True
    with closing(Client(server.url, TOKEN, window=3)) as client:
        handles = [client.send("lobby", str(number)) for number in range(3)]
        with pytest.raises(TimeoutError):
            client.send("lobby", "one too many", timeout=0.05)
        assert client.send("lobby", "again", client_id=handles[0].client_id) is handles[0]
        server.intercept = lambda _socket, _frame: False
        threading.Timer(0.1, server.cut).start()
        client.send("lobby", "3", timeout=SECONDS).result(SECONDS)
        assert server.texts == ["0", "1", "2", "3"]


def test_a_callback_may_send_and_is_not_left_waiting_for_itself(server: FakeServer) -> None:
    with closing(Client(server.url, TOKEN, window=1)) as client:
        answers: list[object] = []
        done = threading.Event()

        def another(_sent: object) -> None:
            try:
                answers.append(client.send("lobby", "from the callback"))
                client.send("lobby", "no place in the window")
            except TimeoutError as error:
                answers.append(error)
            done.set()

        client.send("lobby", "first").add_done_callback(another)
        assert done.wait(SECONDS)
        assert client.flush(SECONDS)
        assert server.texts == ["first", "from the callback"]
        assert isinstance(answers[1], TimeoutError)


def test_a_program_that_does_not_read_is_not_buried_and_misses_nothing(
    server: FakeServer,
) -> None:
    with closing(Client(server.url, TOKEN, backlog=10)) as client:
        client.connected(SECONDS)
        for _ in range(100):
            server.say()
        client.send("lobby", "acks go on").result(SECONDS)
        assert len(client._conversation.events) <= 10
        assert revs(take(client, 101)) == list(range(1, 102))


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
    ("status", "error"),
    [(401, SignInAgain), (403, Forbidden), (400, ClientBug), (426, ClientBug)],
)
def test_a_socket_that_is_refused_for_good_ends_the_client(
    server: FakeServer, status: int, error: type[GaveUp]
) -> None:
    server.refusals = [problem(status, "some_code")]
    with closing(Client(server.url, TOKEN)) as client:
        with pytest.raises(error, match="some_code") as raised:
            client.connected(SECONDS)
        assert (raised.value.status, raised.value.code) == (status, "some_code")
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


def test_fields_and_types_of_later_versions_are_passed_over(
    server: FakeServer, alice: Client
) -> None:
    server.to_all({"type": "confetti", "colours": 7})
    server.to_all({"type": "typing", "room": ROOM, "user": BOB})
    server.say("plain", importance={"level": 3})
    assert [m.text for m in take(alice, 1)] == ["plain"]


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


def ours() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("bytechat-")}


def test_close_ends_all_threads_and_says_so_to_who_waits(server: FakeServer) -> None:
    server.intercept = lambda _socket, _frame: True
    before = threading.active_count()
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
    assert ours() == set()
    server.cut()
    for thread in threading.enumerate():
        if "recv_events" in thread.name or "process_request" in thread.name:
            thread.join(SECONDS)
    assert threading.active_count() <= before


def test_close_works_while_nobody_answers(server: FakeServer) -> None:
    server.stop()
    client = Client(server.url, TOKEN)
    assert wait_for(client, Disconnected).code is None
    client.close(timeout=0)
    assert ours() == set()
    server.start()


def test_leaving_the_block_waits_for_what_was_said(server: FakeServer) -> None:
    with Client(server.url, TOKEN) as client:
        for number in range(20):
            client.send("lobby", str(number))
    assert server.texts == [str(number) for number in range(20)]


def test_many_threads_may_use_one_client(server: FakeServer, alice: Client) -> None:
    def talk(name: str) -> None:
        for number in range(25):
            alice.send("lobby", f"{name} {number}")

    threads = [threading.Thread(target=talk, args=[name]) for name in "abcd"]
    for thread in threads:
        thread.start()
    got = take(alice, 100)
    for thread in threads:
        thread.join()
    assert revs(got) == list(range(1, 101))
    for name in "abcd":
        mine = [m.text for m in got if m.text.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(25)]


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
