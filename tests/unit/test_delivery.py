"""Whatever is lost, late, repeated or cut, everybody ends with what a fresh read would give."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from ..support.databases import Databases
from ..support.delivery import Delivery
from ..support.devices import Device
from ..support.world import ALICE, BOB, ROOMS, World


@pytest.fixture
def world(databases: Databases) -> Iterator[World]:
    logging.disable(logging.WARNING)  # faults are on purpose
    with pytest.MonkeyPatch.context() as patch:
        made = World(databases, patch)
        yield made
        made.close()
    logging.disable(logging.NOTSET)


def test_whatever_happens_everybody_ends_with_what_a_fresh_read_gives(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    Delivery.world = world
    run_state_machine_as_test(Delivery, settings=settings(deadline=None, stateful_step_count=40))
    assert caplog.records == []


def test_a_worker_that_lags_does_not_make_a_client_start_again(world: World) -> None:
    ahead, lagging = world.workers
    phone = Device(world, ALICE, dict.fromkeys(ROOMS, 0))
    for device, worker in ((Device(world, BOB, {}), lagging), (phone, ahead)):
        device.connect(worker)
        device.exchange_all(now=0)
    phone.say(ROOMS[0], "hello", "c1")
    phone.exchange_all(now=0)
    ahead.write()
    world.read()
    ahead.publish()
    ahead.give_out()
    phone.exchange_all(now=0)
    assert phone.positions[ROOMS[0]] == 1
    phone.cut().end()
    phone.connect(lagging)
    phone.exchange_all(now=0)  # it would object to a reset
    lagging.sweep()
    lagging.give_out()  # reads
    lagging.give_out()
    phone.exchange_all(now=0)  # it would object to getting it twice
    assert [message.text for message in phone.cache.messages(ROOMS[0])] == ["hello"]
