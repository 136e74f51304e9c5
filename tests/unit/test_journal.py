"""The journal: acked means committed, numbers without gaps, and the same post never twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, create_engine, event, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from bytechat.auth.schemas import Account
from bytechat.chat import journal as module
from bytechat.chat import messages, posts
from bytechat.chat.frames import MessageFrame
from bytechat.chat.journal import Journal
from bytechat.chat.posts import Answer, Outcome, Post, Sender
from bytechat.errors import ApiError, Internal, Invalid, NotFound, TooBusy, Unavailable
from bytechat.extensions import db
from bytechat.models import Message, Room, User, now
from bytechat.storage import transaction

from ..http.outage import outage

LOBBY = 1
SECONDS = 5.0


@dataclass
class Desk:
    """A journal over an application's database, and what came of the posts."""

    app: Flask
    told: list[tuple[str, Outcome]] = field(default_factory=list)
    published: list[list[MessageFrame]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = Journal(self.app, self._publish)
        with self.app.app_context(), transaction() as connection:
            for name in ("alice", "bob"):
                connection.execute(
                    insert(User), {"username": name, "display_name": name, "created_at": now()}
                )
            for name in ("two", "three"):
                connection.execute(
                    insert(Room),
                    {
                        "name": name,
                        "kind": "public",
                        "topic": "",
                        "head": 0,
                        "created_at": now(),
                    },
                )

    def _publish(self, new: list[MessageFrame]) -> None:
        self.happened.append("published")
        self.published.append(new)

    def post(
        self,
        text: str,
        *,
        user: int = 1,
        room: int = LOBBY,
        client_id: str | None = None,
        reply_to: int | None = None,
        done: Callable[[Outcome], None] | None = None,
    ) -> Post:
        def tell(answers: list[Answer]) -> None:
            (answer,) = answers
            assert answer.post.text == text
            self.happened.append("told")
            self.told.append((text, answer.outcome))
            if done:
                done(answer.outcome)

        author = Account(user, {1: "alice", 2: "bob"}.get(user, "nobody"))
        return Post(author, room, text, tell, client_id, reply_to)

    def write(self, *posts: Post) -> list[Outcome]:
        """One batch of these; the outcomes as their senders were told."""
        already = len(self.told)
        self.journal._write(list(posts))
        return [outcome for _, outcome in self.told[already:]]

    def rows(self, room: int | None = None) -> list[tuple[int, int, int, str]]:
        """(room, seq, author, text) of what is in the database, in the order of the log."""
        query = select(Message.room_id, Message.seq, Message.user_id, Message.text)
        if room:
            query = query.where(Message.room_id == room)
        with self.app.app_context(), transaction() as connection:
            found = connection.execute(query.order_by(Message.room_id, Message.seq))
            return [(row.room_id, row.seq, row.user_id, row.text) for row in found]

    def head(self, room: int = LOBBY) -> int:
        with self.app.app_context(), transaction() as connection:
            return connection.scalars(select(Room.head).where(Room.id == room)).one()


@pytest.fixture
def desk(app: Flask) -> Desk:
    return Desk(app)


def message(outcome: Outcome) -> MessageFrame:
    assert isinstance(outcome, MessageFrame)
    return outcome


def seqs(outcomes: list[Outcome]) -> list[int]:
    return [message(outcome).seq for outcome in outcomes]


# Replies.


def test_a_reply_names_the_message_that_it_answers(desk: Desk) -> None:
    (first,) = desk.write(desk.post("why?"))
    (reply,) = desk.write(desk.post("because", reply_to=message(first).id))
    assert message(reply).reply_to == message(first).id
    with desk.app.app_context(), transaction() as connection:
        (_, stored) = messages.changed_since(connection, LOBBY, 0, 10, MessageFrame)
    assert stored == reply


def test_a_reply_to_another_rooms_message_or_to_none_fails_alone(desk: Desk) -> None:
    (elsewhere,) = desk.write(desk.post("in two", room=2))
    outcomes = desk.write(
        desk.post("before"),
        desk.post("to another room", client_id="c1", reply_to=message(elsewhere).id),
        desk.post("to nothing", reply_to=10**9),
        desk.post("the same again", client_id="c1"),
        desk.post("after"),
    )
    assert [type(outcome) for outcome in outcomes] == [
        MessageFrame, Invalid, Invalid, Invalid, MessageFrame,
    ]  # fmt: skip
    refused = outcomes[1]
    assert isinstance(refused, Invalid)
    assert refused.errors == {"reply_to": ["There is no such message in this room."]}
    assert [text for *_, text in desk.rows(LOBBY)] == ["before", "after"]
    assert desk.head() == 2


def test_a_repeat_gets_the_firsts_answer_whatever_it_replies_to(desk: Desk) -> None:
    (first,) = desk.write(desk.post("first", client_id="c1"))
    assert desk.write(desk.post("again", client_id="c1", reply_to=10**9)) == [first]
    assert desk.head() == 1


def test_a_batch_ends_when_its_texts_are_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 10)
    for text in ("x" * 9, "short", "another", "x" * 50, "last"):
        desk.journal.submit(desk.post(text))
    desk.journal.step()
    assert [len(batch) for batch in desk.published] == [2, 2, 1]


# Numbers.


def test_numbers_are_consecutive_and_in_the_order_of_sending(desk: Desk) -> None:
    first = desk.write(desk.post("one"))
    second = desk.write(*[desk.post(str(number)) for number in range(50)])
    assert seqs(first + second) == list(range(1, 52))
    assert all(message(outcome).rev == message(outcome).seq for outcome in first + second)
    assert [text for *_, text in desk.rows()] == ["one", *map(str, range(50))]
    assert desk.head() == 51


def test_each_room_has_its_own_numbers_in_one_batch(desk: Desk) -> None:
    rooms = [1, 2, 3, 1, 1, 2, 3, 1]
    outcomes = desk.write(*[desk.post(f"{room}", room=room) for room in rooms])
    assert [(message(outcome).room, message(outcome).seq) for outcome in outcomes] == [
        (1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2), (3, 2), (1, 4),
    ]  # fmt: skip
    assert [desk.head(room) for room in (1, 2, 3)] == [4, 2, 2]
    (batch,) = desk.published
    assert [(new.room, new.rev) for new in batch] == [
        (message(o).room, message(o).rev) for o in outcomes
    ]


def test_what_is_told_and_published_is_what_the_database_has(desk: Desk) -> None:
    (outcome,) = desk.write(desk.post("hi", user=2, room=3, client_id="c1"))
    assert desk.published == [[outcome]]
    with desk.app.app_context(), transaction() as connection:
        row = connection.execute(select(Message)).one()
    told = message(outcome)
    assert told == MessageFrame(
        id=row.id,
        room=row.room_id,
        seq=row.seq,
        rev=row.rev,
        user=Account(2, "bob"),
        kind=row.kind,
        text=row.text,
        created_at=row.created_at,
        client_id=row.client_id,
    )


@pytest.mark.parametrize(
    "text",
    [
        'it\'s "quoted" ; DROP TABLE messages; --',
        "%s %(text)s :text ? {} \\ \\x00",
        "😀 𝒳 世界 नमस्ते שלום",
        "e\u0301 is not \u00e9",
        "line\nbreaks\r\n\ttabs \x7f\x01",
        " spaces ",
        "x" * 4000,
    ],
    ids=range(7),
)
def test_a_text_comes_back_as_it_was_sent(desk: Desk, text: str) -> None:
    desk.write(desk.post(text))
    assert desk.rows() == [(LOBBY, 1, 1, text)]


def test_two_workers_that_write_in_the_same_rooms_never_wait_for_each_other(desk: Desk) -> None:
    """Each batch locks its rooms in the order of their ids, however its posts came."""
    count = 40
    other = Journal(desk.app, desk._publish)

    def write_all(journal: Journal, rooms: list[int]) -> None:
        for number in range(count):
            journal._write([desk.post(f"{number}", room=room) for room in rooms])

    orders = [(desk.journal, [1, 2, 3]), (other, [3, 2, 1])]
    threads = [Thread(target=write_all, args=order) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(outcome, MessageFrame) for _, outcome in desk.told)
    for room in (1, 2, 3):
        assert [seq for _, seq, _, _ in desk.rows(room)] == list(range(1, 2 * count + 1))


# Once.


def test_the_same_post_twice_in_a_batch_is_one_message(desk: Desk) -> None:
    outcomes = desk.write(
        desk.post("first", client_id="c1"),
        desk.post("between", client_id="c2"),
        desk.post("again", client_id="c1"),
    )
    assert seqs(outcomes) == [1, 2, 1]
    assert outcomes[2] == outcomes[0]
    assert len({message(outcome).created_at for outcome in outcomes}) == 1, "one transaction"
    assert [text for *_, text in desk.rows()] == ["first", "between"]
    assert [len(batch) for batch in desk.published] == [2]


def test_the_same_post_in_a_later_batch_gets_the_firsts_answer(desk: Desk) -> None:
    (first,) = desk.write(desk.post("first", client_id="c1"))
    outcomes = desk.write(
        desk.post("new", client_id="c2"),
        desk.post("again", room=2, client_id="c1"),
        desk.post("newer"),
    )
    assert outcomes[1] == first
    assert seqs(outcomes) == [2, 1, 3]
    assert desk.rows() == [(1, 1, 1, "first"), (1, 2, 1, "new"), (1, 3, 1, "newer")]
    assert desk.head() == 3
    assert desk.head(2) == 0, "a repetition takes no number"
    assert [[new.text for new in batch] for batch in desk.published] == [
        ["first"],
        ["new", "newer"],
    ]


def test_a_repetition_alone_publishes_nothing(desk: Desk) -> None:
    for _ in range(3):
        assert seqs(desk.write(desk.post("hi", client_id="c1"))) == [1]
    assert len(desk.published) == 1
    assert desk.head() == 1


def test_two_people_may_use_the_same_client_id(desk: Desk) -> None:
    together = desk.write(
        desk.post("alice's", user=1, client_id="c1"), desk.post("bob's", user=2, client_id="c1")
    )
    later = desk.write(
        desk.post("bob's again", user=2, client_id="c1"), desk.post("new", user=1, client_id="c2")
    )
    assert seqs(together + later) == [1, 2, 2, 3]
    assert [text for *_, text in desk.rows()] == ["alice's", "bob's", "new"]


def test_posts_without_a_client_id_are_never_the_same(desk: Desk) -> None:
    assert seqs(desk.write(*[desk.post("hi") for _ in range(3)])) == [1, 2, 3]


# One that fails.


@pytest.mark.parametrize("client_id", [None, "c9"])
def test_a_post_whose_author_is_gone_fails_alone_and_leaves_no_gap(
    desk: Desk, client_id: str | None
) -> None:
    before, gone, after = desk.write(
        desk.post("before", client_id="c1"),
        desk.post("nobody's", user=99, client_id=client_id),
        desk.post("after"),
    )
    assert isinstance(gone, ApiError)
    assert seqs([before, after]) == [1, 2]
    assert seqs(desk.write(desk.post("later"))) == [3]
    assert desk.head() == 3
    assert [new.text for batch in desk.published for new in batch] == ["before", "after", "later"]


def test_when_one_fails_alone_repetitions_are_still_one_message(desk: Desk) -> None:
    (known,) = desk.write(desk.post("known", client_id="c0"))
    outcomes = desk.write(
        desk.post("first", client_id="c1"),
        desk.post("nobody's", user=99),
        desk.post("again", client_id="c1"),
        desk.post("known again", client_id="c0"),
    )
    assert isinstance(outcomes.pop(1), ApiError)
    assert seqs(outcomes) == [2, 2, 1]
    assert outcomes[2] == known
    assert [text for *_, text in desk.rows()] == ["known", "first"]


def test_a_room_that_is_not_there_is_not_found_alone(desk: Desk) -> None:
    lost, found, again = desk.write(
        desk.post("lost", room=99, client_id="c1"),
        desk.post("found", client_id="c2"),
        desk.post("lost again", room=99, client_id="c1"),
    )
    assert isinstance(lost, NotFound)
    assert isinstance(again, NotFound)
    assert seqs([found]) == [1]
    assert [len(batch) for batch in desk.published] == [1]


def test_nothing_is_published_when_nothing_was_written(desk: Desk) -> None:
    desk.write(desk.post("lost", room=99), desk.post("nobody's", user=99))
    assert desk.published == []
    assert desk.rows() == []


def test_a_database_that_is_down_is_told_to_all_and_nothing_is_published(desk: Desk) -> None:
    with outage(desk.app):
        outcomes = desk.write(
            desk.post("one", client_id="c1"), desk.post("two"), desk.post("three", room=99)
        )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert all(isinstance(outcome, ApiError) and outcome.retry_after for outcome in outcomes)
    assert desk.published == []
    assert desk.rows() == []
    assert seqs(desk.write(desk.post("one", client_id="c1"))) == [1], "no number was taken"


def test_a_statement_that_fails_for_another_reason_is_told_to_all_too(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    # Not an outage: somebody has forgotten to migrate.
    with desk.app.app_context(), transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE messages RENAME COLUMN kind TO sort")
    outcomes = desk.write(desk.post("the secret of alice"), desk.post("two"))
    assert all(isinstance(outcome, (Unavailable, Internal)) for outcome in outcomes)
    assert all(isinstance(outcome, ApiError) and outcome.retry_after for outcome in outcomes)
    assert desk.published == []
    assert desk.head() == 0
    assert caplog.records
    assert "the secret of alice" not in caplog.text


def test_a_commit_that_fails_is_told_to_all_and_nothing_is_published(desk: Desk) -> None:
    with desk.app.app_context():
        engine = db.engine

    def lose(_connection: object) -> None:
        raise engine.dialect.loaded_dbapi.OperationalError("the server closed the connection")

    event.listen(engine, "commit", lose)
    outcomes = desk.write(desk.post("one"), desk.post("two"))
    event.remove(engine, "commit", lose)
    assert all(isinstance(outcome, ApiError) for outcome in outcomes)
    assert desk.published == []
    assert desk.rows() == []
    assert desk.head() == 0


def test_when_posts_are_written_one_by_one_an_outage_is_waited_for_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 500 would wait some seconds, and meanwhile nobody is told anything."""
    append, tried = posts._append, []

    def fail(connection: Connection, batch: list[Post], known: Any) -> Any:
        if len(batch) > 1:
            raise IntegrityError("", {}, Exception("as if each of them was sent before"))
        tried.append(batch[0].text)
        if batch[0].text == "two":
            raise OperationalError("", {}, Exception("the database is gone"))
        return append(connection, batch, known)

    monkeypatch.setattr(posts, "_append", fail)
    outcomes = desk.write(*(desk.post(text) for text in ("one", "two", "three", "four")))
    assert tried == ["one", "two"]
    assert [type(outcome) for outcome in outcomes] == [MessageFrame, *[Unavailable] * 3]
    assert [text for *_, text in desk.rows()] == ["one"]
    assert len(desk.published) == 1


# When.


def test_whoever_is_told_finds_the_message_in_the_database(desk: Desk) -> None:
    """Looked for over a connection of another engine: only what is committed can be seen."""
    with desk.app.app_context():
        other = create_engine(db.engine.url)
    seen: list[int] = []

    def look(_outcome: Outcome) -> None:
        with other.connect() as connection:
            seen.append(len(connection.execute(select(Message.id)).all()))

    desk.write(desk.post("one", done=look), desk.post("two", done=look))
    other.dispose()
    assert seen == [2, 2]


def test_senders_are_told_before_anybody_else(desk: Desk) -> None:
    desk.write(desk.post("one"), desk.post("two"), desk.post("lost", room=99))
    assert desk.happened == ["told", "told", "told", "published"]


def test_each_sender_is_told_once(desk: Desk) -> None:
    desk.write(
        *[desk.post(f"{number}", client_id=f"c{number % 3}") for number in range(6)],
        desk.post("nobody's", user=99),
    )
    assert sorted(text for text, _ in desk.told) == ["0", "1", "2", "3", "4", "5", "nobody's"]


def test_a_sender_is_told_of_all_its_posts_of_a_batch_at_once(desk: Desk) -> None:
    boxes: dict[str, list[list[tuple[str, bool]]]] = {"alice": [], "bob": []}

    def post(name: str, text: str) -> Post:
        def sender(answers: list[Answer]) -> None:
            boxes[name].append([(answer.post.text, answer.repeat) for answer in answers])

        senders.setdefault(name, sender)
        return Post(Account(1, "alice"), LOBBY, text, senders[name], text)

    senders: dict[str, Sender] = {}
    told = [("alice", "1"), ("bob", "2"), ("alice", "3"), ("alice", "1"), ("bob", "2")]
    desk.journal._write([post(name, text) for name, text in told])
    assert boxes == {
        "alice": [[("1", False), ("3", False), ("1", True)]],
        "bob": [[("2", False), ("2", True)]],
    }


def test_whoever_waits_for_an_answer_gets_it_or_is_told_to_send_it_again(desk: Desk) -> None:
    author = Account(1, "alice")
    with pytest.raises(Unavailable) as nobody_writes:
        desk.journal.write(author, LOBBY, "hi", "c1", None, seconds=0.01)
    assert nobody_writes.value.retry_after
    writer = Thread(target=desk.journal.step)
    writer.start()
    writer.join()
    writer = Thread(target=desk.journal.step)
    writer.start()
    answer = desk.journal.write(author, LOBBY, "hi", "c1", None, seconds=SECONDS)
    writer.join()
    assert answer.repeat
    assert [text for *_, text in desk.rows()] == ["hi"]


def test_a_sender_who_cannot_be_told_does_not_keep_the_others_waiting(desk: Desk) -> None:
    def hang_up(_outcome: Outcome) -> None:
        raise ConnectionError("gone")

    desk.write(desk.post("one", done=hang_up), desk.post("two"))
    assert [text for text, _ in desk.told] == ["one", "two"]
    assert [len(batch) for batch in desk.published] == [2]


# The queue.


def test_a_full_queue_is_told_at_once_and_takes_no_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE", 3)
    for number in range(3):
        desk.journal.submit(desk.post(str(number)))
    with pytest.raises(TooBusy) as busy:
        desk.journal.submit(desk.post("one too many"))
    assert busy.value.retry_after
    desk.journal.step()
    desk.journal.submit(desk.post("now there is room"))
    desk.journal.step()
    assert [text for *_, text in desk.rows()] == ["0", "1", "2", "now there is room"]


def test_a_flush_waits_for_what_is_queued_and_not_for_what_comes_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.journal.flush(0), "nothing is queued"
    desk.journal.submit(desk.post("before"))
    assert not desk.journal.flush(0.01)
    flushed: list[bool] = []
    waiting = Thread(target=lambda: flushed.append(desk.journal.flush(SECONDS)))
    waiting.start()
    while not desk.journal._flushes[1:]:  # the first gave up
        waiting.join(0.001)

    def write(batch: list[Post]) -> None:
        if batch[0].text == "before":
            desk.journal.submit(desk.post("later"))
            return
        waiting.join(SECONDS)
        assert flushed == [True], "while the later one is not written yet"

    monkeypatch.setattr(desk.journal, "_write", write)
    desk.journal.step()
    assert desk.journal.flush(0)


def test_what_waits_is_written_in_batches_and_in_order(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    for number in range(10):
        desk.journal.submit(desk.post(str(number)))
    desk.journal.step()
    assert [len(batch) for batch in desk.published] == [4, 4, 2]
    assert [text for *_, text in desk.rows()] == [str(number) for number in range(10)]


def test_a_step_that_fails_leaves_what_waits_for_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 1)

    def fail(_new: list[MessageFrame]) -> None:
        raise ValueError("a bug")

    desk.journal._publish = fail
    for text in ("one", "two", "three"):
        desk.journal.submit(desk.post(text))
    for _ in range(3):
        assert desk.journal._ring.is_set(), "or it would wait for somebody else's post"
        with pytest.raises(ValueError, match="a bug"):
            desk.journal.step()
    assert [text for *_, text in desk.rows()] == ["one", "two", "three"]


def test_many_may_post_at_once(desk: Desk) -> None:
    senders, count = 4, 25
    all_told = Event()

    def tell(_outcome: Outcome) -> None:
        if len(desk.told) == senders * count:
            all_told.set()

    def write_for_ever() -> None:
        while not all_told.is_set():
            desk.journal.step()

    def send(sender: int) -> None:
        for number in range(count):
            desk.journal.submit(desk.post(f"{sender} {number}", user=1 + sender % 2, done=tell))

    writer = Thread(target=write_for_ever, daemon=True)
    writer.start()
    threads = [Thread(target=send, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    assert all_told.wait(SECONDS)
    assert desk.journal.flush(SECONDS)
    rows = desk.rows()
    assert [seq for _, seq, _, _ in rows] == list(range(1, senders * count + 1))
    for sender in range(senders):
        mine = [text for *_, text in rows if text.startswith(f"{sender} ")]
        assert mine == [f"{sender} {number}" for number in range(count)]
    desk.journal._ring.set()
    writer.join(SECONDS)


def test_flush_waits_for_the_commit_and_not_for_ever(desk: Desk) -> None:
    assert desk.journal.flush(0)
    desk.journal.submit(desk.post("one"))
    assert not desk.journal.flush(0.01)
    desk.journal.step()
    assert desk.journal.flush(0)
    assert [text for text, _ in desk.told] == ["one"]
