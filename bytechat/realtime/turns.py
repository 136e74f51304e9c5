"""Taking turns: whoever works for long lets the others work in between."""

from __future__ import annotations

import time

#: Seconds of work after which sockets and timers are looked at.
TURN_SECONDS = 0.004

_looked_at = 0.0


def give_way() -> None:
    """Let the others work, whatever they wait for; call it after some milliseconds of work.

    gevent's ``sleep(0)`` lets run what is ready already. Its loop looks for sockets that have
    become ready only after 50 rounds of that, which could be a second. A sleep of any length makes
    it look; but when there is nothing to do that takes a millisecond, so it is not done each time.
    """
    global _looked_at  # noqa: PLW0603 of the one thread that all greenlets share
    if time.monotonic() - _looked_at < TURN_SECONDS:
        time.sleep(0)
    else:
        time.sleep(1e-6)
        _looked_at = time.monotonic()
