"""Frames of clients: what is read, and what a refused one is told and by which name."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from bytechat.auth.schemas import Account
from bytechat.chat import frames
from bytechat.chat.frames import ClientFrame, Ping, Refused, Send, decode

SEND = {"type": "send", "room": 1, "text": "hi", "client_id": "c1"}

GOOD = [
    (SEND, Send(1, "hi", "c1")),
    ({**SEND, "room": "lobby"}, Send("lobby", "hi", "c1")),
    ({**SEND, "text": ""}, Send(1, "", "c1")),  # which the rules refuse
    ({**SEND, "text": "😀\n\x00"}, Send(1, "😀\n\x00", "c1")),
    ({**SEND, "client_id": "c" * 64}, Send(1, "hi", "c" * 64)),
    ({**SEND, "reply_to": 7}, Send(1, "hi", "c1", 7)),
    ({**SEND, "reply_to": None}, Send(1, "hi", "c1")),
    ({**SEND, "room": 2**63 - 1}, Send(2**63 - 1, "hi", "c1")),
    ({"type": "ping"}, Ping()),
    ({"type": "ping", "client_id": "p"}, Ping("p")),
    ({"type": "ping", "client_id": None}, Ping()),
]


@pytest.mark.parametrize(("sent", "frame"), GOOD, ids=range(len(GOOD)))
def test_a_good_frame_is_read(sent: dict[str, object], frame: ClientFrame) -> None:
    assert decode(json.dumps(sent)) == frame


DEEP = "[" * 10_000 + "]" * 10_000

BAD = [
    # Not JSON.
    ("{", "malformed_json", None),
    ('{"type": "send"', "malformed_json", None),
    (json.dumps(SEND) + "}", "malformed_json", None),
    ("{'type': 'ping'}", "malformed_json", None),
    ('{"type": "ping", "client_id": "\\ud800"}', "malformed_json", None),
    ('{"type": "ping", "client_id": NaN}', "malformed_json", None),
    ('{"a":' * 10_000, "malformed_json", None),
    # JSON, but no frame.
    ("{}", "validation", None),
    ('{"type": 1}', "validation", None),
    ('{"type": null}', "validation", None),
    ("[]", "validation", None),
    # No such type.
    ('{"type": "shout", "client_id": "c1"}', "unknown_type", "c1"),
    ('{"type": "hello"}', "unknown_type", None),
    ('{"type": "Send", "client_id": "c1"}', "unknown_type", "c1"),
    ('{"type": ""}', "unknown_type", None),
    # A wrong field.
    (json.dumps({**SEND, "x": 1}), "validation", "c1"),
    (json.dumps({**SEND, "text": 1}), "validation", "c1"),
    (json.dumps({**SEND, "text": None}), "validation", "c1"),
    (json.dumps({**SEND, "room": 0}), "validation", "c1"),
    (json.dumps({**SEND, "room": -1}), "validation", "c1"),
    (json.dumps({**SEND, "room": 2**63}), "validation", "c1"),
    (json.dumps({**SEND, "room": 1.5}), "validation", "c1"),
    (json.dumps({**SEND, "room": True}), "validation", "c1"),
    (json.dumps({**SEND, "room": None}), "validation", "c1"),
    (json.dumps({**SEND, "room": "x" * 65}), "validation", "c1"),
    ('{"type": "send", "client_id": "c1"}', "validation", "c1"),
    ('{"type": "send", "room": 1, "text": "hi"}', "validation", None),
    # A client_id that cannot be one is not sent back.
    (json.dumps({**SEND, "client_id": ""}), "validation", None),
    (json.dumps({**SEND, "reply_to": 0}), "validation", "c1"),
    (json.dumps({**SEND, "reply_to": "7"}), "validation", "c1"),
    (json.dumps({**SEND, "reply_to": 2**63}), "validation", "c1"),
    (json.dumps({**SEND, "client_id": "c" * 65}), "validation", None),
    (json.dumps({**SEND, "client_id": "a\x00b"}), "validation", None),
    (json.dumps({**SEND, "client_id": 1}), "validation", None),
    (json.dumps({**SEND, "client_id": None}), "validation", None),
    # Ten thousand levels, wherever they are.
    (f'{{"type": "send", "room": {DEEP}, "client_id": "c1"}}', None, None),
    (f'{{"type": "ping", "client_id": {DEEP}}}', None, None),
    (f'{{"type": {DEEP}}}', None, None),
    (f'{{"x": {DEEP}, "type": "ping"}}', None, None),
    (f'{{"client_id": "c1", "type": "shout", "x": {DEEP}}}', None, None),
]


@pytest.mark.parametrize(("sent", "code", "client_id"), BAD, ids=range(len(BAD)))
def test_a_bad_frame_is_refused_by_its_name(
    sent: str, code: str | None, client_id: str | None
) -> None:
    with pytest.raises(Refused) as refused:
        decode(sent)
    if code is None:
        assert refused.value.error.status in (400, 422)
    else:
        assert (refused.value.error.code, refused.value.client_id) == (code, client_id)
    assert refused.value.error.detail


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
NAMES = st.sampled_from(["type", "room", "text", "client_id"]) | st.text(max_size=5)
TYPES = st.sampled_from(["send", "ping", "shout", None, 1])


@settings(deadline=None, max_examples=300)
@given(
    st.text(max_size=80).map(lambda text: "{" + text)
    | st.dictionaries(NAMES, VALUES, max_size=5).map(json.dumps)
    | st.tuples(st.dictionaries(NAMES, VALUES, max_size=4), TYPES).map(
        lambda made: json.dumps({**made[0], "type": made[1]})
    )
)
def test_whatever_is_sent_is_read_or_refused(sent: str) -> None:
    try:
        frame = decode(sent)
    except Refused:
        return
    assert isinstance(frame, (Send, Ping))


MOMENT = datetime(2026, 11, 22, 16, 42, 49, 209734, tzinfo=UTC)


def test_a_frame_of_the_server_is_one_text_message_of_json_without_what_is_not_there() -> None:
    message = frames.MessageFrame(
        7, 1, 5, 6, Account(2, "boris"), "text", "Привет 😀" * 1000, MOMENT
    )
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frames.encode(message))
    (event,) = client.events()
    assert isinstance(event, TextMessage)
    assert event.message_finished
    assert json.loads(event.data) == {
        "type": "message",
        "id": 7,
        "room": 1,
        "seq": 5,
        "rev": 6,
        "user": {"id": 2, "username": "boris"},
        "kind": "text",
        "text": "Привет 😀" * 1000,
        "created_at": "2026-11-22T16:42:49.209734Z",
    }
