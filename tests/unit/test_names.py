"""Names and passwords: what is allowed, and that what is typed differently is compared alike."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bytechat.auth.names import PASSWORD_MAX_BYTES, password_form, username_form
from bytechat.errors import Invalid

GOOD_NAMES = [
    ("al", "al"),
    ("a" * 32, "a" * 32),
    ("a1_.-", "a1_.-"),
    ("12", "12"),
    ("_-", "_-"),
    # Case.
    ("Alice", "alice"),
    ("ÅSA", "åsa"),
    ("Иван", "иван"),
    ("ΣΟΦΊΑ", "σοφία"),
    # Width, and the two ways to type one letter.
    ("ａｌｉｃｅ", "alice"),
    ("ＡＬＩＣＥ１", "alice1"),
    ("jose\u0301", "jos\u00e9"),
    ("A\u030asa", "\u00e5sa"),
    # Other scripts.
    ("דוד", "דוד"),
    ("أحمد", "أحمد"),
    ("नमस्ते", "नमस्ते"),  # virama and vowel signs are marks
    ("कि", "कि"),
    ("李小龍", "李小龍"),
    ("たろう", "たろう"),
    ("지민", "지민"),
    ("ก้อง", "ก้อง"),
    ("ivan-李", "ivan-李"),  # nobody takes one for the other
    # Guests' names begin otherwise.
    ("guest", "guest"),
    ("guest1", "guest1"),
    ("my-guest-x", "my-guest-x"),
]

BAD_NAMES = [
    # Length.
    "",
    "a",
    "a" * 33,
    "a" * 100_000,
    "𝒳" * 33,
    "e\u0301",  # two code points, one character
    # Spaces and what cannot be seen.
    "al ice",
    " alice",
    "alice ",
    "al\tice",
    "alice\n",
    "al\u00a0ice",
    "al\u200bice",
    "al\u00adice",
    "al\u2028ice",
    "\ufeffalice",
    "al\x00ice",
    "\x00\x00",
    "al\x7fice",
    "al\u202eice",
    # Not Unicode: a half of a pair.
    "al\ud800ice",
    "\udc00\udc00",
    # Neither letter nor digit.
    "alice!",
    "alice@home",
    "al/ice",
    "al\\ice",
    "al?ice",
    "al%00ice",
    "<b>",
    "al'ice",
    "al:ice",
    "alice😀",
    "😀😀",
    "al·ice",
    "a½",
    "a²",
    "№12",
    "ﬁne",  # a ligature
    "𝐚𝐥𝐢𝐜𝐞",  # mathematical letters
    "ⓐⓛ",
    "\ue000\ue000",  # private use
    "\u0378\u0378",  # not assigned
    # A mark without its letter.
    "\u0301alice",
    "\u094dन",
    # Look-alikes.
    "аlice",  # Cyrillic а
    "alicе",  # Cyrillic е
    "pаypаl",
    "αlice",  # Greek α
    "ivаn-Ω",
    "Иван-Σ",
    "іvan",
    # Guests'.
    "guest-",
    "guest-x",
    "guest-abcd",
    "GUEST-x",
    "Guest-1",
    "ｇｕｅｓｔ－x",
    # Right to left mixed with left to right (RFC 5893).
    "דוdוד",
]


@pytest.mark.parametrize(("typed", "form"), GOOD_NAMES)
def test_a_good_name_has_one_form(typed: str, form: str) -> None:
    assert username_form(typed) == form


@pytest.mark.parametrize("typed", BAD_NAMES, ids=lambda typed: ascii(typed)[:24])
def test_a_bad_name_is_refused_with_a_sentence(typed: str) -> None:
    with pytest.raises(Invalid) as refused:
        username_form(typed)
    assert refused.value.errors == {"username": [refused.value.detail]}
    assert refused.value.detail.endswith(".")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice", "ALICE"),
        ("alice", "ａＬｉｃｅ"),
        ("jos\u00e9", "JOSE\u0301"),
        ("ИВАН", "иван"),
        ("straße", "STRAßE"),
    ],
)
def test_names_that_read_alike_are_the_same_name(one: str, other: str) -> None:
    assert username_form(one) == username_form(other)


#: Letters of names, and what case mapping, width mapping and NFC do most with.
NAME_LETTERS = st.sampled_from(
    "aZ1_.- éÉАनि्שΣςſẞİıǅﬃ＿－ａＡ😀\u0301\u0345\u1fb3\u212a\u212b\u200d\ud800"
)
ANYTHING = st.characters()


@settings(deadline=None)
@given(st.text(ANYTHING, max_size=40) | st.text(NAME_LETTERS, max_size=34))
def test_the_form_of_a_form_is_itself_and_nothing_but_invalid_is_raised(typed: str) -> None:
    try:
        form = username_form(typed)
    except Invalid:
        return
    assert username_form(form) == form
    assert 2 <= len(form) <= 32
    assert unicodedata.is_normalized("NFC", form)


@settings(deadline=None)
@given(st.text(ANYTHING, max_size=120), st.integers(1, 72))
def test_a_password_is_bytes_for_bcrypt_or_invalid(typed: str, shortest: int) -> None:
    try:
        form = password_form(typed, shortest)
    except Invalid:
        return
    assert len(form) <= PASSWORD_MAX_BYTES
    assert b"\x00" not in form
    assert password_form(form.decode(), 1) == form


# Each has up to 72 bytes of UTF-8.
GOOD_PASSWORDS = [
    "123456",
    "p" * 70,
    "p" * 72,
    "пароль",
    "п" * 36,
    "😀" * 18,
    "p" * 68 + "😀",
    "correct horse battery staple",
    " spaces around ",
    "Case Is Kept",
    "٣٤٥٦٧٨",
    "ﬁne ½ ²",
]


@pytest.mark.parametrize("typed", GOOD_PASSWORDS)
def test_a_password_is_kept_as_it_was_typed(typed: str) -> None:
    assert password_form(typed, 6) == typed.encode()


BAD_PASSWORDS = [
    "",
    "12345",
    "😀" * 5,
    # 73 bytes and more.
    "p" * 73,
    "п" * 36 + "p",
    "p" * 69 + "😀",
    "😀" * 19,
    "p" * 1_000_000,
    "é" * 100,
    "e\u0301" * 100,
    # What a keyboard does not type.
    "123\x00456",
    "\x00" * 6,
    "123456\n",
    "123\t456",
    "123\x1b456",
    "123\x7f456",
    "123\u0085456",
    "123\ud800456",
    "\udfff" * 6,
]


@pytest.mark.parametrize("typed", BAD_PASSWORDS, ids=lambda typed: ascii(typed)[:24])
def test_a_bad_password_is_refused_with_a_sentence(typed: str) -> None:
    with pytest.raises(Invalid) as refused:
        password_form(typed, 6)
    assert refused.value.errors == {"password": [refused.value.detail]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9 au lait", "cafe\u0301 au lait"),
        ("\u00c5ngstr\u00f6m", "A\u030angstro\u0308m"),
        ("\uc9c0\ubbfc\uc9c0\ubbfc\uc9c0\ubbfc", unicodedata.normalize("NFD", "지민" * 3)),
        ("two words", "two\u3000words"),  # another keyboard's space
    ],
)
def test_two_keyboards_type_the_same_password(one: str, other: str) -> None:
    assert password_form(one, 6) == password_form(other, 6)


def test_the_whole_of_a_long_decomposed_password_counts() -> None:
    composed = "\u01d6" * 36  # 72 bytes; decomposed it is 108 code points
    assert password_form(unicodedata.normalize("NFD", composed), 6) == composed.encode()


def test_a_decomposed_password_that_is_too_long_is_refused_and_not_cut() -> None:
    too_long = unicodedata.normalize("NFD", "\u1f82" * 25)  # 100 code points, 75 bytes composed
    with pytest.raises(Invalid):
        password_form(too_long, 6)
