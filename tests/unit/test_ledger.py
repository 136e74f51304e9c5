"""The ledger sees what is wrong: a checker that cannot fail proves nothing."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

import pytest

from bytechat.client import Ack, Message, User
from tests.support.databases import Databases
from tests.support.ledger import Entry, Ledger, Stored

ROOM, ALICE, HEAD = 1, 7, 5
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def entry(number: int, **changed: Any) -> Entry:
    """A message of alice; its id is not its seq, as in a database."""
    made = Entry(ROOM, number, number, number + 100, ALICE, f"c{number}", f"text {number}")
    return made._replace(**changed)


def message(told: Entry) -> Message:
    return Message(
        id=told.id,
        room=told.room,
        seq=told.seq,
        rev=told.rev,
        user=User(told.author, "alice"),
        text=told.text,
        created_at=NOW,
        client_id=told.client_id,
    )


def ack(told: Entry) -> Ack:
    return Ack(
        client_id=told.client_id,
        id=told.id,
        room=told.room,
        seq=told.seq,
        rev=told.rev,
        created_at=NOW,
    )


def ledger(*heard: int) -> Ledger:
    """Alice has sent five messages, which are all acked; bob has heard these revs of them."""
    made = Ledger()
    for seq in range(1, HEAD + 1):
        made.sent(ALICE, f"c{seq}", f"text {seq}")
        made.acked(ALICE, ack(entry(seq)))
    made.begins("bob", ROOM, 0)
    for rev in heard:
        made.heard("bob", message(entry(rev)))
    return made


def stored(*seqs: int, head: int = HEAD) -> Stored:
    return Stored({ROOM: head}, [entry(seq) for seq in seqs])


ALL = tuple(range(1, HEAD + 1))


def test_what_is_right_has_no_fault() -> None:
    assert list(ledger(*ALL).faults(stored(*ALL))) == []


def test_what_was_sent_and_not_acked_may_be_there_or_not() -> None:
    more = ledger(*ALL)
    more.sent(ALICE, "c6", "text 6")
    assert list(more.faults(stored(*ALL))) == []
    more.heard("bob", message(entry(6)))
    assert list(more.faults(stored(*ALL, 6, head=6))) == []


@pytest.mark.parametrize(
    ("there", "faults"),
    [
        pytest.param(stored(1, 2, 3, 4, head=4), ["to 7 is not stored"], id="a lost ack"),
        pytest.param(stored(1, 2, 4, 5), ["has no seq 3", "has no rev 3"], id="a gap"),
        pytest.param(stored(*ALL, head=6), ["has no seq 6", "head is 6"], id="a number too many"),
        pytest.param(stored(*ALL, head=4), ["too many of seq 5"], id="past the head"),
        pytest.param(
            Stored({ROOM: 6}, [*map(entry, ALL), entry(6, client_id="c5", text="text 5")]),
            ["(7, 'c5') is stored 2 times"],
            id="a message stored twice",
        ),
        pytest.param(
            Stored({ROOM: HEAD}, [*map(entry, ALL), entry(5, id=9, client_id="c9")]),
            ["too many of seq 5", "too many of rev 5", "never sent"],
            id="a number given twice",
        ),
        pytest.param(
            Stored({ROOM: 6}, [*map(entry, ALL), entry(6, author=8, client_id="c1")]),
            ["author=8, client_id='c1', text='text 6') is stored, and was never sent"],
            id="a stranger's message",
        ),
        pytest.param(
            Stored({ROOM: 6}, [*map(entry, ALL), entry(6, client_id=None)]),
            ["client_id=None, text='text 6') is stored, and was never sent"],
            id="a message without a client_id",
        ),
        pytest.param(
            Stored({ROOM: HEAD}, [*map(entry, ALL[:4]), entry(5, text="else")]),
            ["what was sent is 'text 5'", "bob was told"],
            id="another text",
        ),
        pytest.param(
            Stored({ROOM: HEAD}, [*map(entry, ALL[:4]), entry(5, id=9)]),
            ["is stored as Entry(room=1, seq=5, rev=5, id=9", "bob was told"],
            id="another id than was acked",
        ),
        pytest.param(
            Stored(
                {ROOM: HEAD},
                [*map(entry, ALL[:3]), entry(4, seq=5, rev=5), entry(5, seq=4, rev=4)],
            ),
            ["seq=4, rev=4, created_at", "seq=5, rev=5, created_at", "bob was told"],
            id="two swapped",
        ),
    ],
)
def test_a_fault_of_the_database_is_found(there: Stored, faults: list[str]) -> None:
    found = "\n".join(ledger(*ALL).faults(there))
    assert [fault for fault in faults if fault not in found] == [], found


@pytest.mark.parametrize(
    ("heard", "fault"),
    [
        pytest.param((1, 2, 4, 5), "bob was told rev 4 after rev 2", id="a gap"),
        pytest.param((2, 3, 4, 5), "bob was told rev 2 after rev 0", id="a gap at the start"),
        pytest.param((1, 2, 2, 3, 4, 5), "bob was told rev 2 after rev 2", id="twice"),
        pytest.param((1, 3, 2, 4, 5), "bob was told rev 2 after rev 3", id="a swap"),
        pytest.param((1, 2, 3, 4), "up to rev 4, and the head is 5", id="not to the end"),
        pytest.param((*ALL, 6), "stored is None", id="one that is not there"),
    ],
)
def test_a_fault_of_what_was_heard_is_found(heard: tuple[int, ...], fault: str) -> None:
    assert fault in "\n".join(ledger(*heard).faults(stored(*ALL)))


def test_a_socket_that_was_closed_has_everything_in_order_and_need_not_have_all() -> None:
    made = ledger(*ALL)
    made.begins("a socket", ROOM, 2)
    made.heard("a socket", message(entry(3)))
    made.leaves("a socket", ROOM)
    assert list(made.faults(stored(*ALL))) == []
    made.heard("a socket", message(entry(5)))
    assert list(made.faults(stored(*ALL))) == ["a socket was told rev 5 after rev 3"]


def test_an_ack_that_differs_from_the_first_is_found() -> None:
    made = ledger(*ALL)
    made.acked(ALICE, ack(entry(5)))
    assert list(made.faults(stored(*ALL))) == []
    made.acked(ALICE, ack(entry(5, id=9)))
    assert "is stored as" in "\n".join(made.faults(stored(*ALL)))


def test_what_was_refused_for_good_must_not_be_there() -> None:
    made = ledger(*ALL)
    made.refused(ALICE, "c3")
    assert "was refused" in "\n".join(made.faults(stored(*ALL)))


def test_no_evidence_is_no_proof() -> None:
    assert "proves nothing" in "\n".join(ledger().faults(stored(*ALL)))
    assert "proves nothing" in "\n".join(Ledger().faults(Stored({ROOM: 0}, [])))


def test_the_check_reads_the_tables_themselves(databases: Databases) -> None:
    """And says what is wrong."""
    url = databases.fresh("sqlite")
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute(
            "INSERT INTO users VALUES (7, 'alice', 'alice', NULL, '2026-11-22 00:00:00', NULL)"
        )
        for seq in ALL:
            values = (seq + 100, ROOM, seq, seq, ALICE, "text", f"c{seq}", f"text {seq}")
            db.execute(
                "INSERT INTO messages (id, room_id, seq, rev, user_id, kind, client_id, text,"
                " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '2026-11-22 00:00:00')",
                values,
            )
        db.execute("UPDATE rooms SET head = ?", [HEAD])
    db.close()
    ledger(*ALL).check(url)
    with pytest.raises(AssertionError, match=r"1 faults\nbob was told up to rev 4"):
        ledger(*ALL[:-1]).check(url)
