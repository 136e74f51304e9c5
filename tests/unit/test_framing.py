"""A server's frames: another implementation reads them."""

from __future__ import annotations

import pytest

from bytechat.realtime.framing import PING as PING_FRAME
from bytechat.realtime.framing import text_frame

from ..support.pair import Line, texts_of
from ..support.raw import PING


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_frame_of_any_size_is_read_by_another_implementation(size: int) -> None:
    assert texts_of(text_frame(b"x" * size) + text_frame(b"next")) == ["x" * size, "next"]


def test_our_ping_is_one_that_peers_understand(open_line: Line) -> None:
    open_line.connection.push(PING_FRAME)
    assert open_line.frame() == (PING, b"")
