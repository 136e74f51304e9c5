"""What a client says arrives once and in order, whatever happens to the connection."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from bytechat.client import (
    Client,
    Disconnected,
    Refused,
)

from ...support.clients import SECONDS, TOKEN, revs, take, wait_for
from ...support.fake_server import ROOM, FakeServer, Frame


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
