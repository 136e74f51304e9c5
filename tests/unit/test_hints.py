"""What workers tell each other: hints, as far as they fit through the bus."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytechat.auth.schemas import Account
from bytechat.chat import hints
from bytechat.chat.hints import Change, Committed, News

ALICE = Account(1, "алиса")

HINTS = [
    News("w1", 7, 12, [msgspec.Raw(b'{"rev":11}'), msgspec.Raw(b'{"rev":12}')]),
    News("w1", 7, 12),
    hints.Typing("w1", 7, ALICE),
    hints.Revoked("w1", ["a", "b"]),
    hints.Presence("w1", 3, [Change(ALICE, [1, 2]), Change(Account(2, "bob"), [])]),
]


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: type(hint).__name__)
def test_a_hint_arrives_as_it_was_sent(hint: hints.Hint) -> None:
    assert hints.decode(hints.encode(hint)) == hint


@pytest.mark.parametrize("payload", [b"", b"{}", b"hello", b'{"type":"later"}', b"\xff"])
def test_what_cannot_be_read_is_told_from_a_hint(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        hints.decode(payload)


def committed(*sizes: int, room: int = 1, first: int = 1) -> list[Committed]:
    """Changes whose payloads have these many bytes."""
    return [
        Committed(room, rev, b'"%s"' % (b"x" * (size - 2)))
        for rev, size in enumerate(sizes, start=first)
    ]


def arrived(news: list[News]) -> tuple[dict[tuple[int, int], bytes], dict[int, int]]:
    """What a worker knows that has heard all of this: frames by (room, rev), and heads."""
    frames: dict[tuple[int, int], bytes] = {}
    heads: dict[int, int] = {}
    for hint in news:
        for rev, frame in enumerate(hint.frames, start=hint.rev - len(hint.frames) + 1):
            frames[hint.room, rev] = bytes(frame)
        heads[hint.room] = max(hint.rev, heads.get(hint.room, 0))
    return frames, heads


def test_a_batch_that_fits_is_one_hint_with_all_its_frames() -> None:
    batch = committed(10, 20, 30, first=5)
    [hint] = hints.news("w1", batch, 7_900)
    assert (hint.worker, hint.room, hint.rev) == ("w1", 1, 7)
    assert [bytes(frame) for frame in hint.frames] == [payload for _, _, payload in batch]


def test_each_room_has_hints_of_its_own() -> None:
    batch = [*committed(10, 10, room=1), *committed(10, room=2, first=9)]
    assert [(hint.room, hint.rev, len(hint.frames)) for hint in hints.news("w1", batch, 7_900)] == [
        (1, 2, 2),
        (2, 9, 1),
    ]


def test_what_another_worker_has_written_in_between_is_not_counted() -> None:
    """Each post of a batch may have been written alone; frames are numbered from the last one."""
    some = [*committed(10, first=5), *committed(10, 10, first=7)]
    told = list(hints.news("w", some, 1000))
    assert [(hint.rev, len(hint.frames)) for hint in told] == [(5, 1), (8, 2)]


def test_a_large_batch_is_told_by_its_number_alone() -> None:
    batch = committed(*[300] * (hints.FRAMES_MAX // 300 + 1))
    assert list(hints.news("w1", batch, 7_900)) == [News("w1", 1, len(batch))]


def test_a_frame_that_the_bus_cannot_carry_is_told_by_its_number() -> None:
    told = list(hints.news("w1", committed(100, 9_000, 100), 7_900))
    frames, heads = arrived(told)
    assert set(frames) == {(1, 1), (1, 3)}
    assert heads == {1: 3}


@given(
    sizes=st.lists(st.sampled_from([2, 50, 400, 690, 900]), min_size=1, max_size=30),
    first=st.integers(1, 10**12),
)
def test_no_hint_is_too_large_and_no_frame_is_taken_for_another(
    sizes: list[int], first: int
) -> None:
    batch = committed(*sizes, first=first)
    told = list(hints.news("w1", batch, 900))
    assert all(len(hints.encode(hint)) <= 900 for hint in told)
    frames, heads = arrived(told)
    assert heads == {1: batch[-1].rev}
    right = {(room, rev): payload for room, rev, payload in batch}
    assert frames.items() <= right.items()
    # What is left out is left out because of its size alone.
    assert all(len(right[place]) > 600 for place in right.keys() - frames.keys())
