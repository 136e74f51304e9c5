"""The pulse: pings, silence, the end of tokens, and peers that do not answer our close."""

from __future__ import annotations

import pytest

from bytechat.realtime import pulse
from bytechat.realtime.closing import Code
from bytechat.realtime.connection import Connection
from bytechat.realtime.framing import PING
from bytechat.realtime.hub import Hub

PING_EVERY = 25.0
START = 1000.0  # on the monotonic clock
CLOCK = 1_800_000_000.0  # of the epoch


class Peer(Connection):
    """A connection without a socket, which notes what is done to it."""

    def __init__(self, *, expires_at: float = float("inf")) -> None:
        self.owner = 1
        self.token = None
        self.expires_at = expires_at
        self.heard_at = self.pinged_at = START
        self.done: list[object] = []
        self.is_overdue = False

    def push(self, *chunks: bytes) -> None:
        self.done += chunks

    def close(self, code: Code, reason: str = "") -> None:
        assert reason
        self.done.append(code)

    def abandon(self) -> None:
        self.done.append("abandoned")

    def overdue(self, moment: float) -> bool:
        return self.is_overdue and moment >= START


def look(peer: Peer, after: float, ping_every: float = PING_EVERY) -> list[object]:
    """What is done so many seconds after the start."""
    peer.done.clear()
    pulse.look_after(peer, START + after, CLOCK + after, ping_every)
    return peer.done


def test_a_ping_is_due_after_the_interval_and_once() -> None:
    peer = Peer()
    assert look(peer, 24.9) == []
    assert look(peer, 25.0) == [PING]
    assert look(peer, 25.3) == []
    assert look(peer, 49.9) == []
    assert look(peer, 50.0) == [PING]


def test_a_peer_that_talks_needs_no_ping() -> None:
    peer = Peer()
    for second in range(0, 200, 20):
        peer.heard_at = START + second
        assert look(peer, second + 20) == []


def test_silence_is_closed_after_sixty_seconds_though_pings_were_sent() -> None:
    peer = Peer()
    assert look(peer, 25) == [PING]
    assert look(peer, 50) == [PING]
    assert look(peer, 60) == []
    assert look(peer, 60.1) == [Code.GOING_AWAY]


def test_one_answered_ping_is_life() -> None:
    peer = Peer()
    assert look(peer, 25) == [PING]
    peer.heard_at = START + 26
    assert look(peer, 86) == [PING]
    assert look(peer, 86.1) == [Code.GOING_AWAY]


def test_the_silence_allowed_follows_the_interval() -> None:
    assert look(Peer(), 2.5, ping_every=1) == [Code.GOING_AWAY]
    assert look(Peer(), 2.3, ping_every=1) == [PING]


def test_zero_is_no_pings_and_no_end_of_patience() -> None:
    assert look(Peer(), 100_000, ping_every=0) == []


@pytest.mark.parametrize("ping_every", [0, PING_EVERY])
def test_a_token_that_has_expired_closes_its_socket_to_the_second(ping_every: float) -> None:
    peer = Peer(expires_at=CLOCK + 10)
    assert look(peer, 9.9, ping_every) == []
    assert look(peer, 10, ping_every) == [Code.TOKEN_ENDED]


def test_a_peer_that_does_not_answer_our_close_is_cut_off_and_nothing_more() -> None:
    peer = Peer(expires_at=CLOCK)
    peer.is_overdue = True
    assert look(peer, 100) == ["abandoned"]


def test_every_connection_of_the_hub_is_looked_after() -> None:
    hub = Hub(lambda _room, _since, _limit: [])
    peers = [Peer(expires_at=0) for _ in range(3)]
    for peer in peers:
        hub.join(peer, {1: 0})
    pulse.step(hub, PING_EVERY)
    assert [peer.done for peer in peers] == [[Code.TOKEN_ENDED]] * 3
