"""What clients should not send: each gets a clear answer, and nobody else notices."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import requests

from tests.live.conftest import StartServer
from tests.support.people import Person
from tests.support.raw import BINARY, TEXT, RawClient, handshake
from tests.support.server import Server

GOOD: dict[str, Any] = {"type": "send", "room": 1, "text": "hi", "client_id": "c1"}

BAD_FRAMES = {
    "truncated": ('{"type": "send"', "malformed_json", None),
    "not an object after all": ("{]", "malformed_json", None),
    "trailing": ('{"type": "ping"} {}', "malformed_json", None),
    "lone surrogate": ('{"type":"send","room":1,"text":"\\ud800!","client_id":"c"}', None, None),
    "no type": ("{}", "validation", None),
    "type is a number": ('{"type": 1}', "validation", None),
    "unknown type": ('{"type": "shout", "client_id": "c9"}', "unknown_type", "c9"),
    "unknown field": (json.dumps({**GOOD, "colour": "red"}), "validation", "c1"),
    "no text": ('{"type":"send","room":1,"client_id":"c2"}', "validation", "c2"),
    "no room": ('{"type":"send","text":"a","client_id":"c3"}', "validation", "c3"),
    "no client_id": ('{"type":"send","room":1,"text":"a"}', "validation", None),
    "text is a number": (json.dumps({**GOOD, "text": 1}), "validation", "c1"),
    "text is null": (json.dumps({**GOOD, "text": None}), "validation", "c1"),
    "text is empty": (json.dumps({**GOOD, "text": ""}), "validation", "c1"),
    "text is blank": (json.dumps({**GOOD, "text": " \n\t"}), "validation", "c1"),
    "text is too long": (json.dumps({**GOOD, "text": "я" * 4001}), "validation", "c1"),
    "text has NUL": (json.dumps({**GOOD, "text": "a\0b"}), "validation", "c1"),
    "room is unknown": (json.dumps({**GOOD, "room": 99}), "not_found", "c1"),
    "room's name is unknown": (json.dumps({**GOOD, "room": "attic"}), "not_found", "c1"),
    "room is zero": (json.dumps({**GOOD, "room": 0}), "validation", "c1"),
    "room is huge": (json.dumps({**GOOD, "room": 2**70}), "validation", "c1"),
    "room is a float": (json.dumps({**GOOD, "room": 1.5}), "validation", "c1"),
    "room is true": (json.dumps({**GOOD, "room": True}), "validation", "c1"),
    "client_id is empty": (json.dumps({**GOOD, "client_id": ""}), "validation", None),
    "client_id is too long": (json.dumps({**GOOD, "client_id": "c" * 65}), "validation", None),
    "client_id has NUL": (json.dumps({**GOOD, "client_id": "a\0"}), "validation", None),
    "client_id is a number": (json.dumps({**GOOD, "client_id": 7}), "validation", None),
    "deep nesting": ('{"type":"send","text":' + "[" * 10_000 + "]" * 10_000 + "}", None, None),
    "deep unknown": ('{"x":' + "[" * 10_000 + "]" * 10_000 + "}", None, None),
    "deep objects": ('{"a":' * 10_000 + "1" + "}" * 10_000, None, None),
    "empty plain text": ("", "validation", None),
    "plain text too long": ("x" * 4001, "validation", None),
    "plain text with NUL": ("a\0b", "validation", None),
}


@pytest.mark.parametrize(("text", "code", "client_id"), BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_refused_and_the_socket_stays_open(
    alice: Person, text: str, code: str | None, client_id: str | None
) -> None:
    before = alice.history()
    with alice.talk() as talk:
        talk.socket.send(text)
        refused = talk.next("error")
        assert refused["code"] == code or (code is None and refused["code"] in CLIENT_ERRORS)
        assert refused.get("client_id") == client_id
        assert refused["detail"]
        assert talk.alive()
    assert alice.history() == before


CLIENT_ERRORS = {"malformed_json", "validation", "unknown_type"}


def test_a_binary_message_is_refused_and_the_socket_stays_open(alice: Person) -> None:
    with alice.talk() as talk:
        talk.socket.send(b'{"type":"ping"}')
        assert talk.next()["code"] == "validation"
        assert talk.alive()
    raw = RawClient(alice.server, alice.token)
    raw.next(TEXT)
    raw.send(BINARY, b"\xff\xfe")
    assert raw.next_frame("error")["code"] == "validation"
    raw.sock.close()


def test_over_20_refused_frames_in_a_minute_close_with_4400(alice: Person) -> None:
    with alice.talk() as talk:
        for _ in range(20):
            talk.socket.send("{")
            assert talk.next()["type"] == "error"
        assert talk.alive()
        talk.socket.send("{")
        assert talk.closed() == 4400


def test_what_was_said_before_a_bad_frame_is_not_lost(alice: Person) -> None:
    with alice.talk() as talk:
        talk.socket.send("kept")
        talk.socket.send("{")
        talk.socket.send("kept too")
        talk.next("ack")
        talk.next("ack")
    assert [m["text"] for m in alice.history()][-2:] == ["kept", "kept too"]


BAD_HANDSHAKES: dict[str, tuple[dict[str, str | None], int, str]] = {
    "no key": ({"Sec_WebSocket_Key": None}, 400, "bad_handshake"),
    "a bogus key": ({"Sec_WebSocket_Key": "bogus"}, 400, "bad_handshake"),
    "a short key": ({"Sec_WebSocket_Key": "AAAA"}, 400, "bad_handshake"),
    "a key not in ASCII": ({"Sec_WebSocket_Key": "ключ"}, 400, "bad_handshake"),
    "version 12": ({"Sec_WebSocket_Version": "12"}, 426, "upgrade_required"),
    "no version": ({"Sec_WebSocket_Version": None}, 426, "upgrade_required"),
    "no upgrade": ({"Upgrade": None, "Connection": None}, 426, "upgrade_required"),
    "a foreign origin": ({"Origin": "https://evil.example"}, 403, "forbidden_origin"),
    "a null origin": ({"Origin": "null"}, 403, "forbidden_origin"),
    "a longer host": ({"Origin": "http://127.0.0.1.evil.example"}, 403, "forbidden_origin"),
    "an origin that is no URL": ({"Origin": "http://[::1"}, 403, "forbidden_origin"),
    "an empty origin's host": ({"Origin": "http://"}, 403, "forbidden_origin"),
    "no host": ({"Host": None}, 400, "bad_handshake"),
    "an empty host": ({"Host": "", "Origin": "null"}, 400, "bad_handshake"),
    "a host not in ASCII": ({"Host": "чат"}, 400, "bad_handshake"),
    "a subprotocol not in ASCII": ({"Sec_WebSocket_Protocol": "чат"}, 400, "bad_handshake"),
}


@pytest.mark.parametrize(("changed", "status", "code"), BAD_HANDSHAKES.values(), ids=BAD_HANDSHAKES)
def test_a_bad_handshake_is_answered_in_plain_http(
    alice: Person, changed: dict[str, str | None], status: int, code: str
) -> None:
    client = RawClient(alice.server, alice.token, **changed)
    assert client.status == status, client.head
    assert b"application/problem+json" in client.head
    assert code.encode() in client.body()
    client.sock.close()


def test_a_head_request_does_not_open_a_socket(alice: Person) -> None:
    client = RawClient(alice.server, alice.token, method="HEAD")
    assert client.status == 400
    client.sock.close()


BROKEN_CHUNKS = [
    b"zz\r\n{}\r\n",
    b"-1\r\n",
    b"2\r\n{}xx",
    b"2\r\n{}\r\n0\r\nx y\r\n\r\n",
    b"20\r\n{",
]


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS)
def test_a_body_with_broken_chunks_gets_400(server: Server, chunks: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        )
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_csrf_value_not_in_ascii_gets_401(alice: Person) -> None:
    headers: dict[str, str | bytes] = {
        "Cookie": f"bytechat_session={alice.token}",
        "X-CSRF-TOKEN": b"\xff",
    }
    answer = requests.post(f"{alice.server.url}/logout", headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (401, "csrf_failed")


def test_a_credential_that_cannot_be_read_makes_no_guest(start_server: StartServer) -> None:
    server = start_server(GUESTS="1")
    for header in ("Basic abc", "Bearer", "Bearer nonsense"):
        assert handshake(server, Authorization=header)[0] == 401
    assert handshake(server, path="/ws?token=")[0] == 401
    assert handshake(server)[0] == 101


@pytest.mark.parametrize("path", ["/ws", "/ws?token=nonsense", "/ws?token="])
def test_a_bad_token_is_answered_in_plain_http(server: Server, path: str) -> None:
    status, head = handshake(server, path=path)
    assert status == 401
    assert b"application/problem+json" in head


@pytest.mark.any_database
def test_the_page_of_this_host_and_of_allowed_origins_may_open_sockets(
    start_server: StartServer,
) -> None:
    server = start_server(ALLOWED_ORIGINS="https://chat.example, http://other.example:81")
    alice = Person(server)
    own = f"http://127.0.0.1:{server.port}"
    for origin in (own, "https://chat.example", "http://other.example:81"):
        assert handshake(server, alice.token, Origin=origin)[0] == 101
    assert handshake(server, alice.token, Origin="https://chat.example.evil")[0] == 403


def test_the_subprotocol_is_answered_when_it_is_offered(alice: Person) -> None:
    offered = handshake(alice.server, alice.token, Sec_WebSocket_Protocol="x, bytechat.v1")
    assert b"Sec-WebSocket-Protocol: bytechat.v1" in offered[1]
    unknown = handshake(alice.server, alice.token, Sec_WebSocket_Protocol="x")
    assert unknown[0] == 101
    assert b"Sec-WebSocket-Protocol" not in unknown[1]


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; nonsense=%%"])
def test_compression_is_not_negotiated(alice: Person, offer: str) -> None:
    status, head = handshake(alice.server, alice.token, Sec_WebSocket_Extensions=offer)
    assert status == 101
    assert b"Sec-WebSocket-Extensions" not in head
