"""Usernames and passwords: which are allowed, and their one form for comparing (RFC 8265)."""

from __future__ import annotations

import unicodedata

from precis_i18n import get_profile

from ..errors import Invalid

USERNAME_MIN, USERNAME_MAX = 2, 32

#: bcrypt reads 72 bytes; bcrypt 5 refuses more instead of ignoring the rest.
PASSWORD_MAX_BYTES = 72

#: Code points that one character may be typed as, decomposed (U+1F82, for one).
DECOMPOSED_MAX = 4

#: Names of guests begin so, and nobody else's may.
GUEST_PREFIX = "guest-"

#: Scripts whose letters look alike; a name has letters of one of them at most.
CONFUSABLE_SCRIPTS = {"LATIN", "CYRILLIC", "GREEK"}

_username_profile = get_profile("UsernameCaseMapped")
_password_profile = get_profile("OpaqueString")


def username_form(typed: str) -> str:
    """The form of a name by which it is stored and compared: width and case mapped, NFC.

    Raises Invalid if it is not 2 to 32 letters, digits and ``_ . -``, or if it mixes scripts that
    look alike (a Cyrillic letter in a Latin name).
    """
    if not USERNAME_MIN <= len(typed) <= USERNAME_MAX:
        raise _refused("username", f"A name has {USERNAME_MIN} to {USERNAME_MAX} characters.")
    try:
        name: str = _username_profile.enforce(typed)
    except UnicodeEncodeError:
        name = ""
    if not all(_is_name_character(c) for c in name) or not _starts_well(name):
        raise _refused("username", "A name has letters, digits and _ . - only.")
    if not USERNAME_MIN <= len(name) <= USERNAME_MAX:
        raise _refused("username", f"A name has {USERNAME_MIN} to {USERNAME_MAX} characters.")
    if len(CONFUSABLE_SCRIPTS & {_script(c) for c in name}) > 1:
        raise _refused("username", "A name may not mix Latin, Cyrillic and Greek letters.")
    if name.startswith(GUEST_PREFIX):
        raise _refused("username", f"Names that begin with {GUEST_PREFIX} are for guests.")
    return name


def password_form(typed: str, shortest: int) -> bytes:
    """The bytes of a password that are hashed; raises Invalid if it is too short, long or has NUL.

    OpaqueString makes one form of what two keyboards type differently (a composed or a decomposed
    é), and refuses control characters.
    """
    if len(typed) < shortest:
        raise _refused("password", f"A password has at least {shortest} characters.")
    too_long = f"A password has at most {PASSWORD_MAX_BYTES} bytes in UTF-8."
    if len(typed) > PASSWORD_MAX_BYTES * DECOMPOSED_MAX:
        raise _refused("password", too_long)  # not worth composing
    try:
        password: bytes = _password_profile.enforce(typed).encode()
    except UnicodeEncodeError:
        raise _refused("password", "A password has no control characters.") from None
    if len(password) > PASSWORD_MAX_BYTES:
        raise _refused("password", too_long)
    return password


def _is_name_character(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category == "Nd" or character in "_.-"


def _starts_well(name: str) -> bool:
    # A mark (M) belongs to the letter before it.
    return bool(name) and unicodedata.category(name[0])[0] != "M"


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]


def _refused(field: str, sentence: str) -> Invalid:
    return Invalid(sentence, errors={field: [sentence]})
