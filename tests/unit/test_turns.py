"""Taking turns: whoever works for long lets those work whose sockets have become ready."""

from __future__ import annotations

import subprocess
import sys

from ..support.databases import ROOT

SCRIPT = """
from gevent import monkey; monkey.patch_all()
import socket, threading, time
from bytechat.realtime.turns import give_way

ours, peers = socket.socketpair()
heard = []
threading.Thread(target=lambda: heard.append(ours.recv(1)), daemon=True).start()
time.sleep(0.01)
peers.send(b"x")
turns = 0
while not heard and turns < 200:
    until = time.monotonic() + 0.002
    while time.monotonic() < until:
        pass
    give_way()
    turns += 1
print(turns)
"""


def test_a_socket_that_has_become_ready_is_read_between_two_turns() -> None:
    """gevent's sleep(0) would let it wait for 50 of them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert int(done.stdout) <= 10
