"""What is said, as lines that a terminal can be trusted with."""

from __future__ import annotations

import unicodedata

from .shapes import Message

#: Messages that are remembered, to tell an edit from a reaction.
REMEMBERED = 1000

#: Format characters that scripts and emoji need: soft hyphen, joiners, and marks of direction.
#: Those that turn the order of what follows on the line are not among them.
_FORMATS = frozenset("\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")
_FLAG_TAGS = range(0xE0020, 0xE0080)


def harmless(text: str) -> str:
    """One line without anything that steers a terminal: controls become U+FFFD, tabs spaces.

    Escape sequences could move the cursor, set the title, or make a terminal type (CWE-150).
    """
    return "".join(c if _shown(c) else " " if c == "\t" else "\ufffd" for c in text)


def _shown(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return character in _FORMATS or ord(character) in _FLAG_TAGS
    return category not in {"Cc", "Cs", "Zl", "Zp"}


class Lines:
    """Makes the lines of one room; a line of a text that does not come first is marked as such."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, str, bool]] = {}

    def of(self, message: Message) -> list[str]:
        """What there is to show of this change: nothing, if its text is as it was."""
        known = self._known.pop(message.id, None)
        new = (message.rev, message.text, message.deleted)
        if known and known[0] >= message.rev:
            new = known
        self._known[message.id] = new
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        if known and known[1:] == new[1:]:
            return []
        when = message.created_at.astimezone().strftime("%H:%M")
        who = harmless(message.user.username)
        if message.deleted:
            return [f"{when} {who} removed a message"]
        first, *rest = message.text.replace("\r\n", "\n").split("\n")
        mark = " (edited)" if known or message.edited_at else ""
        start = f"{when} *" if message.kind == "system" else f"{when} {who}{mark}:"
        return [f"{start} {harmless(first)}", *(f"      | {harmless(line)}" for line in rest)]
