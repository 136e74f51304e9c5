"""The hub: every member is given every frame of a room once, in order, whatever gets lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import count
from threading import Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bytechat.realtime import cohort as cohort_module
from bytechat.realtime import feed as feed_module
from bytechat.realtime import hub as module
from bytechat.realtime.cohort import COHORT, WHISPERS_MAX, Cohort
from bytechat.realtime.connection import Connection
from bytechat.realtime.feed import EARLY_MAX, Feed
from bytechat.realtime.hub import Hub
from bytechat.realtime.turns import TURN_SECONDS

ROOM = 7
SECONDS = 5.0


class Member(Connection):
    """A connection that notes what it is given, instead of having a socket."""

    def __init__(self, owner: int = 1) -> None:
        self.owner = owner
        self.token = None
        self.given: list[bytes] = []
        self.writes = 0
        self.on_push: Callable[[], None] | None = None
        self.start = 0

    def push(self, *chunks: bytes) -> None:
        self.writes += 1
        self.given += chunks
        if self.on_push:
            self.on_push()

    @property
    def revs(self) -> list[int]:
        return [int(rev) for rev in b"".join(self.given).split()]


class Database:
    """The log of one room, as a hub reads it: not always."""

    def __init__(self) -> None:
        self.head = 0
        self.reads: list[int] = []
        self.fails = False
        self.on_read: Callable[[], None] | None = None

    def read_since(self, room: int, rev: int, limit: int) -> list[tuple[int, bytes]]:
        assert room == ROOM
        self.reads.append(rev)
        if self.fails:
            raise ConnectionError("the database is down")
        last = min(self.head, rev + limit)
        found = [(number, frame(number)) for number in range(rev + 1, last + 1)]
        if self.on_read:
            self.on_read()  # what happens while the answer is on its way
        return found


def frame(rev: int) -> bytes:
    return f"{rev} ".encode()


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def hub(database: Database) -> Hub:
    return Hub(database.read_since)


def join(hub: Hub, database: Database, owner: int = 1) -> Member:
    member = Member(owner)
    member.start = hub.join(member, {ROOM: database.head})[ROOM]
    return member


def publish(hub: Hub, *revs: int, room: int = ROOM) -> None:
    hub.publish([(room, rev, frame(rev)) for rev in revs])


def settle(hub: Hub) -> None:
    """What the worker's threads do, until there is no news."""
    while hub._ring.is_set() or hub._gap_ring.is_set():
        rotate(hub)


def rotate(hub: Hub) -> None:
    """A turn of each thread that has something to do."""
    if hub._gap_ring.is_set():
        hub.catch_up()
    if hub._ring.is_set():
        hub.step()


@pytest.fixture
def alice(hub: Hub, database: Database) -> Member:
    """A member of a room that is at 10, and up to date."""
    database.head = 10
    member = join(hub, database)
    settle(hub)
    database.reads.clear()
    return member


# Order.


def test_frames_are_given_by_their_numbers_once(
    hub: Hub, alice: Member, database: Database
) -> None:
    for revs in ([11], [12, 13], [14]):
        database.head = revs[-1]
        publish(hub, *revs)
        settle(hub)
    assert alice.revs == [11, 12, 13, 14]
    assert database.reads == [], "nothing was missed, so nothing needed to be read"


def test_a_gap_is_read_from_the_database_and_filled_in_order(
    hub: Hub, alice: Member, database: Database
) -> None:
    database.head = 15
    publish(hub, 11)
    publish(hub, 14, 15)
    settle(hub)
    assert alice.revs == [11, 12, 13, 14, 15]
    assert database.reads[0] == 11


def test_a_gap_of_many_pages_is_filled(hub: Hub, alice: Member, database: Database) -> None:
    database.head = 3 * module.PAGE
    publish(hub, database.head)
    settle(hub)
    assert alice.revs == list(range(11, database.head + 1))


def test_frames_that_come_before_their_turn_wait_in_bounds(
    hub: Hub, alice: Member, database: Database
) -> None:
    database.head, database.fails = 3000, True
    publish(hub, *range(12, 3001))  # all but one
    settle(hub)
    assert len(hub._feeds[ROOM].early) <= EARLY_MAX
    database.fails = False
    publish(hub, 3000)
    settle(hub)
    assert alice.revs == list(range(11, 3001))
    assert hub._feeds[ROOM].early == {}


def test_frames_that_only_changed_places_are_put_in_order(
    hub: Hub, alice: Member, database: Database
) -> None:
    database.head = 13
    publish(hub, 13, 11, 12)
    settle(hub)
    assert alice.revs == [11, 12, 13]
    assert database.reads == [], "nothing was missing in the end"


def test_repeated_and_late_frames_do_no_harm(hub: Hub, alice: Member, database: Database) -> None:
    database.head = 13
    publish(hub, 11, 11, 12)
    publish(hub, 9, 10, 12, 13, 13, 11)
    settle(hub)
    publish(hub, 13, 1, 12)
    settle(hub)
    assert alice.revs == [11, 12, 13]


def test_a_frame_that_comes_while_the_gap_is_read_is_neither_lost_nor_repeated(
    hub: Hub, alice: Member, database: Database
) -> None:
    arrivals = iter([(11, 13, 14, 16), (17, 15)])

    def meanwhile() -> None:
        revs = next(arrivals, ())
        database.head = max((database.head, *revs))
        publish(hub, *revs)

    database.on_read = meanwhile
    database.head = 12
    publish(hub, 12)
    settle(hub)
    assert alice.revs == [11, 12, 13, 14, 15, 16, 17]


def test_frames_that_gather_during_a_visit_come_with_the_next_as_one_piece(
    hub: Hub, database: Database
) -> None:
    members = [join(hub, database, owner) for owner in range(3)]
    settle(hub)
    pending = [2, 3, 4]

    def more() -> None:
        if pending:
            publish(hub, pending.pop(0))

    members[0].on_push = more
    members[1].on_push = more
    publish(hub, 1)
    settle(hub)
    for member in members:
        assert member.revs == [1, 2, 3, 4]
        assert len(member.given) < 4
    for pushed in zip(*(member.given for member in members), strict=True):
        assert len({id(batch) for batch in pushed}) == 1, "encoded once, shared by all"


def test_a_frame_goes_out_to_whoever_is_visited_after_it_was_published(
    hub: Hub, database: Database
) -> None:
    """Or it would wait for the end of a rotation, and for its place in the next one."""
    members = [join(hub, database, owner) for owner in range(3 * COHORT)]
    settle(hub)
    pending = [2, 3]

    def more() -> None:
        if pending:
            publish(hub, pending.pop(0))

    members[0].on_push = members[COHORT].on_push = more
    publish(hub, 1)
    hub.step()
    cohorts = [members[n : n + COHORT] for n in range(0, len(members), COHORT)]
    assert [{*map(str, (m.revs for m in cohort))} for cohort in cohorts] == [
        {"[1]"},
        {"[1, 2]"},
        {"[1, 2, 3]"},
    ]
    settle(hub)
    assert all(member.revs == [1, 2, 3] for member in members)


def test_cohorts_that_stand_at_the_same_rev_share_one_piece(hub: Hub, database: Database) -> None:
    members = [join(hub, database, owner) for owner in range(3 * COHORT)]
    settle(hub)
    publish(hub, 1, 2, 3)
    settle(hub)
    assert all(member.revs == [1, 2, 3] for member in members)
    assert len({id(member.given[0]) for member in members}) == 1


def test_frames_that_one_cohort_has_not_been_given_are_kept_in_bounds(
    hub: Hub, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have them already, and are given more all the time."""
    monkeypatch.setattr(cohort_module, "COHORT", 1)
    monkeypatch.setattr(feed_module, "RING_BYTES", 100)
    alice, bob, late = (join(hub, database, owner) for owner in range(3))
    settle(hub)
    feed = hub._feeds[ROOM]
    lagging = hub._connections[late]
    for rev in range(1, 301):
        database.head = rev
        publish(hub, rev)
        del hub._queue[lagging]  # it is never visited
        hub.step()
        assert sum(map(len, feed.frames)) <= 104
    assert late.given == []
    assert alice.revs == bob.revs != []
    hub._queue[lagging] = None
    hub._ring.set()
    settle(hub)
    assert all(member.revs == list(range(1, 301)) for member in (alice, bob, late))
    assert (feed.frames, feed.revs, feed._size) == ([], [], 0)


def test_a_room_goes_on_when_those_who_lag_have_left(
    hub: Hub, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_module, "COHORT", 1)
    monkeypatch.setattr(feed_module, "RING_BYTES", 30)
    alice, late = join(hub, database), join(hub, database)
    settle(hub)
    publish(hub, *range(1, 30))
    database.head = 29
    del hub._queue[hub._connections[late]]
    settle(hub)
    assert len(alice.revs) < 29
    hub.leave(late, [ROOM])
    settle(hub)
    assert alice.revs == list(range(1, 30))


def test_what_all_have_been_given_is_forgotten_at_once(hub: Hub, database: Database) -> None:
    members = [join(hub, database, owner) for owner in range(2 * COHORT)]
    settle(hub)
    feed = hub._feeds[ROOM]
    kept: list[list[int]] = []
    members[0].on_push = members[COHORT].on_push = lambda: kept.append(list(feed.revs))
    publish(hub, 1, 2)
    hub.step()
    assert kept == [[1, 2], []]
    assert feed._batch == b""


def test_a_burst_is_given_out_in_portions_that_no_outbox_is_overflown_by(
    hub: Hub, database: Database
) -> None:
    alice = join(hub, database)
    settle(hub)
    database.head, size = 100, module.PORTION // 10
    late: list[Member] = []
    alice.on_push = lambda: late.append(join(hub, database, owner=2))
    hub.publish([(ROOM, rev, frame(rev).ljust(size)) for rev in range(1, 101)])
    settle(hub)
    assert alice.revs == list(range(1, 101))
    assert len(alice.given) == len(late) == 10
    assert all(len(batch) <= module.PORTION + size for batch in alice.given)
    for member in late:  # who came between two portions
        assert member.revs == list(range(member.start + 1, 101))


def test_rooms_do_not_mix(database: Database) -> None:
    hub = Hub(lambda _room, _since, _limit: [])
    in_both, in_one = Member(), Member()
    hub.join(in_both, {1: 0, 2: 0})
    hub.join(in_one, {1: 0})
    settle(hub)
    publish(hub, 1, room=2)
    settle(hub)
    assert in_one.given == []
    publish(hub, 1, room=1)
    publish(hub, 1, room=3)  # nobody is there
    settle(hub)
    assert (in_both.revs, in_one.revs) == ([1, 1], [1])
    assert hub.rooms() == [1, 2]


# Joining.


def test_the_first_in_a_room_starts_from_what_the_database_said(
    hub: Hub, database: Database
) -> None:
    assert hub.join(Member(), {ROOM: 10, 8: 0}) == {ROOM: 10, 8: 0}


def test_what_was_committed_between_the_look_and_the_joining_is_not_lost(
    hub: Hub, database: Database
) -> None:
    looked = database.head
    database.head = 2
    publish(hub, 1, 2)  # nobody is in the room yet
    member = Member()
    assert hub.join(member, {ROOM: looked}) == {ROOM: 0}
    settle(hub)
    assert member.revs == [1, 2]


def test_whoever_joins_later_is_given_all_after_the_number_they_were_told(
    hub: Hub, alice: Member, database: Database
) -> None:
    database.head = 12
    publish(hub, 11, 12)  # not given out yet
    bob = join(hub, database, owner=2)
    settle(hub)
    database.head = 13
    publish(hub, 13)
    settle(hub)
    assert bob.revs == list(range(bob.start + 1, 14))
    assert alice.revs == [11, 12, 13]


def test_whoever_joins_while_frames_are_given_out_misses_none(
    hub: Hub, alice: Member, database: Database
) -> None:
    late: list[Member] = []
    alice.on_push = lambda: late.append(join(hub, database, owner=2))
    database.head = 11
    publish(hub, 11)
    settle(hub)
    alice.on_push = None
    database.head = 12
    publish(hub, 12)
    settle(hub)
    (bob,) = late
    assert bob.revs == list(range(bob.start + 1, 13))


def test_cohorts_are_filled_up_again_when_people_have_left(hub: Hub, database: Database) -> None:
    members = [join(hub, database, owner) for owner in range(3 * COHORT)]
    cohorts = set(hub._connections.values())
    assert [cohort.size for cohort in cohorts] == [COHORT] * 3
    assert not hub._open
    for member in members[:5] + members[COHORT:]:
        hub.leave(member, [ROOM])
    assert {cohort.size for cohort in hub._connections.values()} == {COHORT - 5}
    for owner in range(6):
        join(hub, database, owner)
    sizes = [cohort.size for cohort in set(hub._connections.values())]
    assert sorted(sizes) == [1, COHORT]
    assert [cohort.size for cohort in hub._open] == [1]


def test_nothing_is_kept_of_a_cohort_that_all_have_left(hub: Hub, database: Database) -> None:
    alice = join(hub, database)
    settle(hub)
    publish(hub, 1)
    hub.leave(alice, [ROOM])
    assert [len(kept) for kept in (hub._queue, hub._open, hub._connections, hub._feeds)] == [0] * 4
    settle(hub)
    assert alice.given == []


def test_who_is_alone_in_a_room_and_comes_back_is_not_given_what_was_before(
    hub: Hub, database: Database
) -> None:
    """Their cohort, where others are who do not care, still had news of it."""
    hub.join(Member(), {8: 0})
    alice = join(hub, database)
    publish(hub, 1)
    hub.leave(alice, [ROOM])
    database.head = 1
    bob = join(hub, database)
    assert bob.start == 1
    settle(hub)
    assert bob.writes == 0


def test_a_room_is_entered_with_its_first_member_and_left_with_its_last() -> None:
    noted: list[tuple[str, int]] = []
    hub = Hub(
        lambda _room, _since, _limit: [],
        entered=lambda room: noted.append(("entered", room)),
        left=lambda room: noted.append(("left", room)),
    )
    alice, bob = Member(1), Member(2)
    hub.join(alice, {1: 0, 2: 0})
    hub.join(bob, {2: 0, 3: 0})
    assert noted == [("entered", 1), ("entered", 2), ("entered", 3)]
    noted.clear()
    hub.leave(alice, [1, 2])
    hub.leave(bob, [2, 3])
    hub.join(alice, {2: 0})
    assert noted == [("left", 1), ("left", 2), ("left", 3), ("entered", 2)]


def test_entering_and_leaving_is_noted_in_the_order_in_which_it_happened() -> None:
    """Or who listens would be out of a room that somebody is in."""
    seen: list[tuple[str, bool]] = []
    registry = Hub(
        lambda _room, _since, _limit: [],
        entered=lambda _room: seen.append(("entered", registry._lock.locked())),
        left=lambda _room: seen.append(("left", registry._lock.locked())),
    )
    alice = Member()
    registry.join(alice, {1: 0})
    registry.leave(alice, [1])
    assert seen == [("entered", True), ("left", True)]


# Whispers.


def test_a_whisper_is_given_once_to_whoever_is_in_any_of_its_rooms() -> None:
    hub = in_rooms(dict.fromkeys(range(1, 5), 0))
    in_three, in_one, elsewhere = Member(1), Member(2), Member(3)
    hub.join(in_three, {1: 0, 2: 0, 3: 0})
    hub.join(in_one, {2: 0})
    hub.join(elsewhere, {4: 0})
    settle(hub)
    hub.whisper([1, 2, 3, 99], b"typing")
    settle(hub)
    assert (in_three.given, in_one.given, elsewhere.given) == ([b"typing"], [b"typing"], [])
    assert elsewhere.writes == 0


def test_a_whisper_is_not_given_to_whom_it_is_about(hub: Hub, database: Database) -> None:
    phone, laptop, bob = (join(hub, database, owner) for owner in (1, 1, 2))
    settle(hub)
    hub.whisper([ROOM], b"typing", besides=1)
    settle(hub)
    assert (phone.given, laptop.given, bob.given) == ([], [], [b"typing"])
    assert phone.writes == 0


def test_a_whisper_goes_out_in_the_same_write_as_what_else_is_owed(
    hub: Hub, database: Database
) -> None:
    members = [join(hub, database, owner) for owner in range(2 * COHORT)]
    settle(hub)
    publish(hub, 1)
    hub.whisper([ROOM], b"2 ")
    hub.step()
    assert all(member.writes == 1 for member in members)
    assert all(sorted(member.revs) == [1, 2] for member in members)
    assert not hub._ring.is_set()
    publish(hub, 2)
    settle(hub)
    assert all(sorted(member.revs) == [1, 2, 2] for member in members), "and it is not repeated"


def test_a_whisper_is_not_kept_for_who_joins_later(hub: Hub, database: Database) -> None:
    alice = join(hub, database)
    settle(hub)
    hub.whisper([ROOM], b"typing")
    bob = join(hub, database, owner=2)
    settle(hub)
    assert (alice.given, bob.given) == ([b"typing"], [])


def test_whispers_that_can_be_missed_wait_in_bounds_and_others_are_never_dropped(
    hub: Hub, database: Database
) -> None:
    """Who comes or goes is told of once: to miss it would be to see it wrong until the next."""
    alice = join(hub, database)
    settle(hub)
    for number in range(1, 2 * WHISPERS_MAX + 1):
        hub.whisper([ROOM], frame(number), droppable=True)
    hub.whisper([ROOM], frame(999))
    settle(hub)
    assert alice.revs == [*range(1, WHISPERS_MAX + 1), 999]


# When the database or the publishing fails.


def test_a_lost_frame_is_found_by_comparing_heads(
    hub: Hub, alice: Member, database: Database
) -> None:
    database.head = 13  # and nobody says so
    hub.compare({ROOM: 13, 99: 5})
    settle(hub)
    assert alice.revs == [11, 12, 13]


def test_comparing_equal_or_older_heads_reads_nothing(
    hub: Hub, alice: Member, database: Database
) -> None:
    hub.compare({ROOM: 10})
    hub.compare({ROOM: 3})
    settle(hub)
    assert database.reads == []


def test_a_read_that_failed_is_tried_again_after_the_next_comparison(
    hub: Hub, alice: Member, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.head, database.fails = 13, True
    publish(hub, 13)
    settle(hub)
    assert alice.given == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    database.fails = False
    hub.compare({ROOM: 13})
    settle(hub)
    assert alice.revs == [11, 12, 13]


def test_a_frame_after_a_read_that_failed_tries_again_too(
    hub: Hub, alice: Member, database: Database
) -> None:
    database.head, database.fails = 12, True
    publish(hub, 12)
    settle(hub)
    database.head, database.fails = 13, False
    publish(hub, 13)
    settle(hub)
    assert alice.revs == [11, 12, 13]


def test_a_read_that_fails_does_not_hold_back_what_is_in_order(
    hub: Hub, alice: Member, database: Database
) -> None:
    database.head, database.fails = 13, True
    publish(hub, 11, 13)
    settle(hub)
    assert alice.revs == [11]


def test_a_frame_that_nothing_leads_up_to_is_forgotten(hub: Hub, database: Database) -> None:
    """It is another installation's, or was lost when the database changed hands."""
    alice = join(hub, database)
    publish(hub, 1_000_000)
    settle(hub)  # which would not end if the gap before it stayed open
    database.head = 2
    publish(hub, 1, 2)
    settle(hub)
    assert alice.revs == [1, 2]
    assert hub._feeds[ROOM].early == {}


# Leaving.


def test_leaving_takes_everything_out_of_the_registry(hub: Hub, database: Database) -> None:
    members = [join(hub, database, owner=owner) for owner in (1, 1, 2)]
    assert len(hub) == 3
    assert set(hub.connections()) == set(members)
    hub.leave(members[0], [ROOM])
    hub.leave(members[1], [ROOM])
    hub.leave(members[2], [ROOM])
    assert len(hub) == 0
    assert hub.connections() == []
    assert hub.rooms() == []
    publish(hub, 1)
    hub.compare({ROOM: 1})
    settle(hub)
    assert hub._feeds == {}
    assert all(member.given == [] for member in members)


# The lock.


def test_the_registry_is_free_while_members_are_written_to(hub: Hub, database: Database) -> None:
    alice, bob = join(hub, database, owner=1), join(hub, database, owner=2)
    settle(hub)

    def use_everything() -> None:
        hub.leave(bob, [ROOM])
        hub.join(bob, {ROOM: database.head})
        publish(hub, 1)
        hub.compare({ROOM: 0})
        assert hub.connections()

    alice.on_push = use_everything
    publish(hub, 1)
    passing = Thread(target=settle, args=(hub,), daemon=True)
    passing.start()
    passing.join(SECONDS)
    assert not passing.is_alive(), "a member's push waits for the hub's lock"
    assert alice.revs == [1]


def test_the_registry_is_free_while_the_database_is_read(hub: Hub, database: Database) -> None:
    alice = join(hub, database)
    database.head = 3

    def use_everything() -> None:
        hub.leave(join(hub, database, owner=2), [ROOM])
        publish(hub, 3)

    database.on_read = use_everything
    passing = Thread(target=settle, args=(hub,), daemon=True)
    passing.start()
    passing.join(SECONDS)
    assert not passing.is_alive(), "the database is read under the hub's lock"
    assert alice.revs == [1, 2, 3]


def test_the_last_may_leave_while_the_database_is_read(hub: Hub, database: Database) -> None:
    alice = join(hub, database)
    database.head = 3
    database.on_read = lambda: hub.leave(alice, [ROOM]) if hub.rooms() else None
    settle(hub)
    assert alice.given == []
    assert hub.rooms() == []


def test_a_wide_fan_out_lets_others_run_between_slices(
    hub: Hub, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [join(hub, database, owner) for owner in range(250)]
    settle(hub)
    clock = count()
    monkeypatch.setattr(module, "monotonic", lambda: next(clock) * TURN_SECONDS / 99.5)
    written: list[int] = []
    monkeypatch.setattr(
        time, "sleep", lambda _: written.append(sum(bool(member.given) for member in members))
    )
    publish(hub, 1)
    settle(hub)
    assert written[:2] == [100, 200]
    assert all(member.revs == [1] for member in members)


def test_a_step_ends_although_more_is_said_all_the_time(
    hub: Hub, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_module, "COHORT", 1)
    members = [join(hub, database, owner) for owner in range(3)]
    settle(hub)
    numbers = count(2)
    for member in members:
        member.on_push = lambda: publish(hub, next(numbers))
    publish(hub, 1)
    hub.step()
    assert [member.writes for member in members] == [1, 1, 1]


def test_a_socket_that_cannot_be_written_to_is_cut_and_the_others_go_on(
    hub: Hub, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    broken, bob = join(hub, database, 1), join(hub, database, 2)
    settle(hub)
    cut: list[Member] = []

    def fail() -> None:
        raise ValueError

    broken.on_push = fail
    broken.abandon = lambda: cut.append(broken)  # type: ignore[method-assign]
    publish(hub, 1)
    settle(hub)
    assert cut == [broken]
    assert bob.revs == [1]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_step_waits_for_news(hub: Hub, database: Database) -> None:
    alice = join(hub, database)
    settle(hub)
    given = Event()
    alice.on_push = given.set
    step = Thread(target=hub.step, daemon=True)
    step.start()
    assert not given.wait(0.02)
    publish(hub, 1)
    step.join(SECONDS)
    assert alice.revs == [1]


# Several rooms.


def in_rooms(heads: dict[int, int]) -> Hub:
    """A hub over as many rooms, each with its head, whose frames all are there to be read."""

    def read_since(room: int, rev: int, limit: int) -> list[tuple[int, bytes]]:
        return [(r, frame(r)) for r in range(rev + 1, min(heads[room], rev + limit) + 1)]

    return Hub(read_since)


def test_who_is_in_several_rooms_with_news_is_written_to_once() -> None:
    hub = in_rooms(dict.fromkeys(range(1, 11), 0))
    everywhere, in_two = Member(), Member()
    hub.join(everywhere, dict.fromkeys(range(1, 11), 0))
    hub.join(in_two, {3: 0, 4: 0})
    settle(hub)
    hub.publish([(room, rev, frame(rev)) for rev in (1, 2) for room in range(1, 11)])
    settle(hub)
    assert (everywhere.writes, in_two.writes) == (1, 1)
    assert everywhere.given == [b"1 2 "] * 10
    assert in_two.given == [b"1 2 "] * 2
    shared = {id(batch) for batch in everywhere.given}
    assert {id(batch) for batch in in_two.given} <= shared, "shared, and not copied"


def test_a_visit_gives_out_a_portion_however_many_rooms_have_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or somebody in many busy rooms would be given more at once than an outbox holds."""
    monkeypatch.setattr(module, "PORTION", 20)
    hub = in_rooms(dict.fromkeys(range(1, 31), 0))
    alice = Member()
    hub.join(alice, dict.fromkeys(range(1, 31), 0))
    settle(hub)
    hub.publish([(room, 1, frame(1)) for room in range(1, 31)])
    settle(hub)
    assert alice.writes == 3
    assert len(alice.given) == 30


def test_a_busy_room_does_not_keep_a_quiet_one_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTION", 20)
    hub = in_rooms({1: 0, 2: 0})
    alice, bob = Member(), Member()
    hub.join(alice, {1: 0})
    hub.join(bob, {2: 0})
    settle(hub)
    publish(hub, *range(1, 200), room=1)
    publish(hub, 1, room=2)
    for _ in range(2):
        hub.step()
    assert bob.revs == [1], "its turn is the visit after that of the busy one"
    assert len(alice.revs) < 30
    settle(hub)
    assert alice.revs == list(range(1, 200))


def test_a_slow_database_keeps_nobody_waiting_but_those_of_whom_it_is_asked() -> None:
    """It may take seconds, and most rooms need nothing of it."""
    asked, answered = Event(), Event()

    def read_since(room: int, rev: int, limit: int) -> list[tuple[int, bytes]]:
        if room == 1 and rev:
            asked.set()
            assert answered.wait(SECONDS)
        return [(r, frame(r)) for r in range(rev + 1, min(3 * rev, rev + limit) + 1)]

    hub = Hub(read_since)
    alice, bob = Member(), Member()
    hub.join(alice, {1: 0})
    hub.join(bob, {2: 0})
    settle(hub)
    publish(hub, 1, 3, room=1)
    reading = Thread(target=hub.catch_up)
    reading.start()
    assert asked.wait(SECONDS)
    publish(hub, 1, room=2)
    hub.step()
    assert (alice.revs, bob.revs) == ([1], [1])
    publish(hub, 2, room=1)
    hub.step()
    assert alice.revs == [1, 2, 3], "what comes meanwhile is not held up either"
    answered.set()
    reading.join(SECONDS)
    settle(hub)
    assert alice.revs == [1, 2, 3]


# The ring.


def test_what_does_not_fit_the_ring_is_read_from_the_database_in_its_turn(
    hub: Hub, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A room in which more is said than can be given out costs time, and not memory."""
    monkeypatch.setattr(feed_module, "RING_BYTES", 100)
    monkeypatch.setattr(module, "PORTION", 40)
    alice = join(hub, database)
    settle(hub)
    feed = hub._feeds[ROOM]
    held = []
    for rev in range(1, 301):
        database.head = rev
        publish(hub, rev)
        held.append(sum(map(len, feed.frames)))
    assert max(held) <= 104
    assert not feed.early
    settle(hub)
    assert alice.revs == list(range(1, 301))
    assert database.reads, "the rest was read"
    assert not feed.frames


# Whatever happens, in whatever order.


class World:
    """A hub, its database, its members; every method is something that may happen."""

    def __init__(self) -> None:
        self.database = Database()
        self.hub = Hub(self.database.read_since)
        self.members: list[Member] = []

    def commit(self, number: int) -> None:
        self.database.head += 1 + number % 3

    def publish(self, number: int) -> None:
        """Of anything that was committed: early, late, repeated, or in order."""
        if self.database.head:
            publish(self.hub, 1 + number % self.database.head)

    def say(self, number: int) -> None:
        """Commit and publish, as a journal does."""
        self.commit(number)
        publish(self.hub, self.database.head)

    def compare(self, number: int) -> None:
        self.hub.compare({ROOM: max(0, self.database.head - number % 2)})

    def join(self, number: int) -> None:
        self.members.append(join(self.hub, self.database, owner=number))

    def join_late(self, number: int) -> None:
        """Something is said between the look at the database and the joining."""
        member, looked = Member(number), self.database.head
        self.say(number)
        member.start = self.hub.join(member, {ROOM: looked})[ROOM]
        self.members.append(member)

    def leave(self, number: int) -> None:
        if self.members:
            member = self.members.pop(number % len(self.members))
            self.hub.leave(member, [ROOM])
            assert member.revs == list(range(member.start + 1, member.start + 1 + len(member.revs)))

    def whisper(self, number: int) -> None:
        self.hub.whisper([ROOM], b"", besides=number)

    def rotate(self, _number: int) -> None:
        rotate(self.hub)

    def rotate_while_people_come_and_go(self, number: int) -> None:
        """Whoever is written to next says something, or joins, or leaves, or several of it."""
        happenings = [self.say, self.join, self.publish, self.leave, self.join_late]

        def happen() -> None:
            for member in self.members:
                member.on_push = None
            for n, happening in enumerate(happenings):
                if number & 1 << n:
                    happening(number)

        for member in self.members[number % 3 :]:
            member.on_push = happen
        self.rotate(number)
        for member in self.members:
            member.on_push = None

    def settle(self, _number: int) -> None:
        settle(self.hub)

    def settle_while_others_talk(self, number: int) -> None:
        times = iter(range(1 + number % 3))

        def talk() -> None:
            if next(times, None) is not None:
                self.say(number)
                self.publish(number)

        self.database.on_read = talk
        settle(self.hub)
        self.database.on_read = None

    def settle_without_a_database(self, _number: int) -> None:
        self.database.fails = True
        settle(self.hub)
        self.database.fails = False


HAPPENINGS = [name for name in vars(World) if not name.startswith("_")]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 30)), max_size=60))
def test_every_member_is_given_every_number_once_whatever_is_lost_late_or_repeated(
    happenings: list[tuple[str, int]],
) -> None:
    world = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", 3)
        patch.setattr(module, "PORTION", 5)
        patch.setattr(cohort_module, "COHORT", 2)
        patch.setattr(feed_module, "RING_BYTES", 12)
        patch.setattr(module.log, "disabled", True)  # of reads that fail on purpose
        for name, number in happenings:
            getattr(world, name)(number)
        world.hub.compare({ROOM: world.database.head})
        settle(world.hub)
    for member in world.members:
        assert member.revs == list(range(member.start + 1, world.database.head + 1))


def test_a_feed_knows_how_far_places_were_given_and_how_far_it_was_offered() -> None:
    feed, cohort = Feed(5), Cohort()
    assert feed.enter(cohort, Member()) == 5
    place = feed.places[cohort]
    feed.offer(6, b"6")
    assert (place.rev, feed.newest, feed.gap) == (5, 6, False)
    feed.offer(8, b"8")
    assert (place.rev, feed.newest, feed.gap) == (5, 6, True)
    assert feed.take(place, 100) == b"6"
    assert (place.rev, feed.newest, feed.gap) == (6, 6, True)
    feed.fill([(7, b"7"), (8, b"8")])
    assert feed.take(place, 100) == b"78"
    assert (place.rev, feed.newest, feed.gap) == (8, 8, False)


def test_a_rev_that_is_no_more_is_passed_over() -> None:
    """A message that was changed twice before it was read is read once, at its newest rev."""
    feed, ahead, behind = Feed(5), Cohort(), Cohort()
    for cohort in (ahead, behind):
        feed.enter(cohort, Member())
    feed.offer(6, b"6")
    feed.take(feed.places[ahead], 100)
    feed.fill([(8, b"8"), (11, b"11")])
    assert feed.take(feed.places[ahead], 1) == b"8"
    assert feed.take(feed.places[behind], 100) == b"6811"
    assert feed.revs == [11]
    assert feed.take(feed.places[ahead], 100) == b"11"
    assert (feed.revs, feed.newest) == ([], 11)
