"""Who is online: here, with the others, and when one of them is gone."""

from __future__ import annotations

from math import inf

import pytest

from bytechat.auth.schemas import Account
from bytechat.chat.hints import Change
from bytechat.chat.presence import Presence, Turn

ALICE, BOB, CAROL = Account(1, "alice"), Account(2, "bob"), Account(3, "carol")
LATER = inf

#: Before anybody who leaves during a test counts as gone.
SOON = 0.0


@pytest.fixture
def here() -> Presence:
    return Presence()


def came(user: Account, *rooms: int) -> Turn:
    return Turn(user, frozenset(rooms), online=True)


def went(user: Account, *rooms: int) -> Turn:
    return Turn(user, frozenset(rooms), online=False)


def test_somebody_comes_and_goes(here: Presence) -> None:
    here.arrive(ALICE, [1, 2])
    assert here.turns() == [came(ALICE, 1, 2)]
    assert here.online([2]) == [ALICE.id]
    assert here.online([3]) == []
    here.depart(ALICE)
    here.expire(LATER)
    assert here.turns() == [went(ALICE, 1, 2)]
    assert here.online([1, 2]) == []


def test_turns_are_told_once(here: Presence) -> None:
    here.arrive(ALICE, [1])
    here.turns()
    assert here.turns() == []


def test_who_shares_two_rooms_is_listed_once(here: Presence) -> None:
    here.arrive(ALICE, [1, 2])
    here.arrive(BOB, [2])
    assert sorted(here.online([1, 2])) == [ALICE.id, BOB.id]


def test_a_second_socket_changes_nothing_and_the_last_one_counts(here: Presence) -> None:
    here.arrive(ALICE, [1])
    here.arrive(ALICE, [1])
    here.turns()
    here.depart(ALICE)
    here.expire(LATER)
    assert here.turns() == []
    assert here.online([1]) == [ALICE.id]


def test_a_reconnect_within_the_time_shows_nothing(here: Presence) -> None:
    here.arrive(ALICE, [1])
    here.turns()
    here.depart(ALICE)
    here.expire(SOON)
    assert here.online([1]) == [ALICE.id]
    here.arrive(ALICE, [1])
    here.expire(LATER)
    assert here.turns() == []


def test_who_comes_and_goes_between_two_looks_is_not_told_of(here: Presence) -> None:
    here.arrive(ALICE, [1])
    here.depart(ALICE)
    here.expire(LATER)
    assert here.turns() == []


def test_the_others_are_told_what_has_changed_here_once(here: Presence) -> None:
    here.arrive(ALICE, [1])
    changes = here.untold()
    assert changes == [Change(ALICE, [1])]
    assert here.untold() == changes  # as long as it was not written
    here.told(changes)
    assert here.untold() == []


def test_what_changes_while_it_is_written_is_told_next(here: Presence) -> None:
    here.arrive(ALICE, [1])
    changes = here.untold()
    here.depart(ALICE)
    here.expire(LATER)
    here.told(changes)
    assert here.untold() == [Change(ALICE, [])]


def test_who_knows_nothing_is_told_of_everybody(here: Presence) -> None:
    here.arrive(ALICE, [1])
    here.told(here.untold())
    here.arrive(BOB, [2])
    assert here.all_here() == [Change(ALICE, [1]), Change(BOB, [2])]


def test_the_users_of_other_workers_are_online_too(here: Presence) -> None:
    here.learn("there", 0, 1, [Change(BOB, [1])])
    assert here.turns() == [came(BOB, 1)]
    assert here.online([1]) == [BOB.id]
    assert here.untold() == []  # that is theirs to tell
    here.learn("there", 1, 2, [Change(BOB, [])])
    assert here.turns() == [went(BOB, 1)]


def test_who_moves_to_another_worker_is_online_all_the_time(here: Presence) -> None:
    here.learn("there", 0, 1, [Change(BOB, [1])])
    here.turns()
    here.arrive(BOB, [1])
    here.learn("there", 1, 2, [Change(BOB, [])])
    assert here.turns() == []
    assert here.online([1]) == [BOB.id]


def test_only_the_next_version_can_be_learnt_from_a_hint(here: Presence) -> None:
    assert here.follows("there", 1)
    assert not here.follows("there", 2)
    here.learn("there", 0, 4, [])
    assert here.follows("there", 5)
    assert not here.follows("there", 4)


def test_an_old_version_changes_nothing(here: Presence) -> None:
    here.learn("there", 0, 2, [Change(BOB, [1])])
    here.learn("there", 0, 1, [Change(BOB, [])])
    here.learn("there", 1, 2, [Change(BOB, [])])
    assert here.online([1]) == [BOB.id]


def test_a_missed_version_is_noticed(here: Presence) -> None:
    here.learn("there", 0, 2, [Change(BOB, [1])])
    assert here.missed({"there": 2}) == {}
    assert here.missed({"there": 5, "new": 1, "idle": 0}) == {"there": 2, "new": 0}


def test_a_worker_that_is_gone_takes_its_users_along(here: Presence) -> None:
    here.learn("there", 0, 1, [Change(ALICE, [1]), Change(BOB, [1])])
    here.arrive(ALICE, [1])
    here.turns()
    here.forget_others_than([])
    assert here.turns() == [went(BOB, 1)]
    assert here.online([1]) == [ALICE.id]


def test_a_worker_that_comes_back_to_life_is_read_from_the_start(here: Presence) -> None:
    here.learn("there", 0, 7, [Change(BOB, [1])])
    here.forget_others_than([])
    assert here.missed({"there": 7}) == {"there": 0}


def test_in_doubt_all_is_learnt_anew_and_who_has_not_moved_is_not_told_of(here: Presence) -> None:
    here.learn("there", 0, 7, [Change(ALICE, [1]), Change(BOB, [1])])
    here.turns()
    here.doubt()
    assert here.online([1]) == [ALICE.id, BOB.id]
    assert here.missed({"there": 9}) == {"there": 0}
    here.learn("there", 0, 9, [Change(ALICE, [1])])
    assert here.turns() == [went(BOB, 1)]


def test_what_was_read_before_the_doubt_is_not_taken_for_everybody(here: Presence) -> None:
    """It was asked for after a version that is in doubt now: the rest of the users is not in it."""
    here.learn("there", 0, 5, [Change(ALICE, [1]), Change(BOB, [1])])
    here.doubt()
    here.learn("there", 5, 6, [Change(CAROL, [1])])
    assert here.online([1]) == [ALICE.id, BOB.id]
    assert here.missed({"there": 6}) == {"there": 0}


def test_what_was_read_from_the_start_is_everybody_also_after_a_hint(here: Presence) -> None:
    here.learn("there", 0, 1, [Change(ALICE, [1])])
    here.learn("there", 0, 3, [Change(BOB, [1])])
    assert here.online([1]) == [BOB.id]


def test_nothing_is_kept_of_those_who_are_gone(here: Presence) -> None:
    here.arrive(ALICE, [1, 2])
    here.depart(ALICE)
    here.expire(LATER)
    here.turns()
    here.told(here.untold())
    here.learn("there", 0, 1, [Change(BOB, [3])])
    here.learn("there", 1, 2, [Change(BOB, [])])
    here.turns()
    assert not any([here._here, here._online, here._rooms, here._before, here._untold])
