"""The capacity model adds up, the dice agree with the formula, and the page has what they print."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from bench import capacity, costs, report, simulate
from bench.capacity import Model
from bench.costs import Costs, Habits, Kind


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Everybody talks in pairs only, and both are always there."""
    monkeypatch.setattr(capacity, "KINDS", (Kind(members=2, each=1, share=1),))
    return Model(10_000, Habits(messages=86.4, online=1, peak=1, session=1000))


def test_what_people_do_is_multiplied_out(pairs: Model) -> None:
    assert pairs.people == 10_000
    assert pairs.workers == 2
    assert pairs.messages == pytest.approx(10)  # 86.4 a day are one in 1,000 s
    assert pairs.deliveries == pytest.approx(20)
    assert pairs.connects == pytest.approx(10)
    # The other one is at the other worker half of the time.
    assert pairs.heard_by == pytest.approx(0.5)
    # 5,000 pairs: a quarter is at one worker, a quarter at the other, half are at both.
    assert pairs.rooms_per_worker == pytest.approx(3750)


def test_what_it_costs_is_multiplied_out(pairs: Model) -> None:
    costs = Costs(
        connect=2000, connect_db=100, write=10, gathered=0, take_in=900, batched=100, store=300,
        hear=200, notify=100, notify_each=50, publish=40, publish_each=4, head=8, head_db=4,
    )  # fmt: skip
    model = replace(pairs, costs=costs)
    assert model.worker_cores() == pytest.approx(
        {
            "connects": 0.02,
            "messages taken in": 0.01,
            "deliveries": 0.0002,
            "hints heard": 0.001,
            "pings and pongs": 0.008,
            "sweeps": 0.06,
        }
    )
    assert model.worker_cores(on_valkey=False)["hints heard"] == pytest.approx(0.002)
    assert model.database_cores() == pytest.approx(
        {"messages stored": 0.003, "connects": 0.001, "sweeps": 0.03}
    )
    assert model.notify_cores == pytest.approx(0.002)  # 10/s of 100 + 2 * 50 us
    assert model.valkey_cores == pytest.approx(0.00046)  # 10/s of 40 + 1.5 * 4 us


def test_what_comes_together_is_one_write_and_one_commit() -> None:
    costs = Costs(write=12, gathered=0.1, take_in=1000, batched=70)
    assert capacity.delivery(costs, 1) == capacity.delivery(costs, 30) == pytest.approx(12.1)
    assert capacity.delivery(costs, 1000) == pytest.approx(12 / 30 + 0.1)
    assert capacity.taking_in(costs, 1) == pytest.approx(1070)
    assert capacity.taking_in(costs, 1000) == pytest.approx(1000 / 5 + 70)


def test_servers_are_counted_up_and_never_fall_under_what_survives_a_failure() -> None:
    small, large = Model(1), Model(6_000_000)
    assert (small.workers, small.machines, small.databases(), small.valkeys) == (1, 2, 1, 2)
    assert large.workers == 1200
    assert large.machines == 100
    needed = sum(large.database_cores().values())
    half = costs.DATABASE_CORES / 2
    assert (large.databases() - 1) * half < needed <= large.databases() * half
    assert large.databases(sweeping=False) < large.databases()


def test_valkey_is_needed_from_the_first_number_of_workers_at_which_notify_takes_too_much() -> None:
    number = capacity.workers_for_valkey()
    limit = 0.1 * costs.DATABASE_CORES
    sockets = costs.SOCKETS_PER_WORKER
    assert (
        Model((number - 1) * sockets).notify_cores < limit <= Model(number * sockets).notify_cores
    )


def test_the_dice_agree_with_the_formula() -> None:
    dice = random.Random(7)
    seen = sum(simulate.having(25, 100, dice) for _ in range(2000)) / 2000
    assert seen == pytest.approx(simulate.expected(25, 100), rel=0.02)
    for spread in (simulate.hashed, simulate.least):
        found = spread(10_000, 10, dice)
        assert len(found) == 10
        assert sum(found) == 10_000
    assert max(simulate.least(10_000, 10, dice)) < max(simulate.hashed(10_000, 10, dice))


def test_a_storm_lasts_as_long_as_its_connects_or_as_the_clients_wait() -> None:
    dice = random.Random(7)
    # One worker, all at once: nothing but work, from the first to come (0.25 to 0.5 s) on.
    assert simulate.storm(2000, 1, 2.5, dice) == pytest.approx(5.25, abs=0.05)
    # Nothing to do: the longest of the first waits.
    assert simulate.storm(2000, 1, 0.0001, dice) == pytest.approx(0.5, abs=0.01)
    # Nobody gets in before it opens, and who has found it closed comes later.
    assert simulate.storm(100, 1, 0.0001, dice, opens_after=2) > 2
    # More than can wait to be accepted: some try again, and all get in.
    crowd = simulate.BACKLOG * 2
    assert simulate.storm(crowd, 1, 1, dice) >= 0.25 + crowd / 1000


@pytest.mark.parametrize(
    ("module", "output"),
    [("bench.capacity", capacity.output), ("bench.simulate", simulate.output)],
    ids=["capacity", "simulate"],
)
def test_the_page_has_exactly_what_the_script_prints(
    module: str, output: Callable[[], str]
) -> None:
    """If not: ``python -m bench.capacity --write``, or the same with the other's name."""
    assert report.placed(report.SCALING, module) == output()
