"""What others say cannot play with one's terminal."""

from __future__ import annotations

import unicodedata

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bytechat.client import Message
from bytechat.client.terminal import REMEMBERED, Lines, harmless

from ...support.fake_server import message


def said(rev: int, number: int | None = None, **changed: object) -> Message:
    return msgspec.convert(message(rev, number=number, **changed), Message)


def shown(lines: list[str]) -> list[str]:
    """Without the time."""
    return [line[6:] for line in lines]


@given(st.text(st.characters(exclude_categories=[])))
def test_no_control_character_is_ever_shown(text: str) -> None:
    line = harmless(text)
    assert not {unicodedata.category(c) for c in line} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(line) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_escape_sequences_are_taken_apart() -> None:
    assert harmless("\u202etxt.exe\u2069") == "\ufffdtxt.exe\ufffd"
    assert harmless("\x1b]0;mine\x07\x1b[2J\x9b31mred") == "�]0;mine��[2J�31mred"


def test_what_people_write_stays_as_it_is() -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    flag = "\U0001f3f4\U000e0067\U000e0062\U000e007f"
    for text in ("Привет, мир", "שלום", "می\u200cخواهم", family, flag, "naïve"):
        assert harmless(text) == text


def test_nobody_can_make_up_a_line_of_somebody_else() -> None:
    first, second = Lines().of(said(1, text="hi\n12:00 alice: I owe you\r"))
    assert first.endswith("bob: hi")
    assert second == "      | 12:00 alice: I owe you�"


def test_an_edit_is_shown_and_marked_a_reaction_is_not() -> None:
    lines = Lines()
    assert shown(lines.of(said(1, text="teh"))) == ["bob: teh"]
    assert lines.of(said(2, 1, text="teh", reactions=[{"emoji": "🙂", "users": [1]}])) == []
    assert shown(lines.of(said(3, 1, text="the"))) == ["bob (edited): the"]
    assert lines.of(said(1, text="teh")) == [], "an old copy"
    assert shown(lines.of(said(4, 1, text="", deleted=True))) == ["bob removed a message"]
    assert shown(lines.of(said(5, kind="system", text="carol joined"))) == ["* carol joined"]


def test_a_long_talk_is_not_remembered_for_ever() -> None:
    lines = Lines()
    for rev in range(1, REMEMBERED + 100):
        lines.of(said(rev))
    assert len(lines._known) == REMEMBERED
