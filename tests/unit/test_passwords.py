"""bcrypt never holds the event loop, never takes a second core, and never queues without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

import bcrypt
import gevent
import pytest

from bytechat.auth import passwords
from bytechat.errors import TooBusy

ROUNDS = 4


@pytest.fixture(autouse=True)
def pool_of_this_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As under gunicorn. The native thread belongs to the event loop of this test's thread."""
    monkeypatch.setattr(passwords, "is_module_patched", lambda _module: True)
    passwords._thread.cache_clear()
    yield
    passwords._thread().kill()
    passwords._thread.cache_clear()


@pytest.fixture
def gate() -> Iterator[Event]:
    """Work that waits for it lasts until it is set, and not for ever."""
    gate = Event()
    yield gate
    gate.set()


def start(count: int, work: Callable[[], bool]) -> list[gevent.Greenlet[..., bool]]:
    greenlets = [gevent.spawn(passwords._natively, work) for _ in range(count)]
    gevent.sleep(0)  # all of them are under way now
    return greenlets


def test_a_hash_is_of_its_password_only() -> None:
    password_hash = passwords.hashed(b"123456", ROUNDS)
    assert passwords.matches(b"123456", password_hash, ROUNDS)
    assert not passwords.matches(b"123457", password_hash, ROUNDS)
    assert not passwords.matches(b"", password_hash, ROUNDS)


def test_a_hash_has_the_cost_that_was_asked_for_and_its_own_salt() -> None:
    one, other = passwords.hashed(b"123456", 5), passwords.hashed(b"123456", 5)
    assert one.startswith("$2b$05$")
    assert one != other


def test_the_event_loop_goes_on_while_a_password_is_hashed(gate: Event) -> None:
    (greenlet,) = start(1, lambda: gate.wait(5))
    for _ in range(100):
        gevent.sleep(0)
    assert not greenlet.ready()
    gate.set()
    assert greenlet.get(timeout=5)


def test_one_password_is_hashed_at_a_time() -> None:
    running = most = 0

    def work() -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        bcrypt.hashpw(b"123456", bcrypt.gensalt(ROUNDS))  # lets go of the interpreter
        running -= 1
        return True

    gevent.joinall(start(passwords.QUEUE, work), timeout=10, raise_error=True)
    assert most == 1


def test_beyond_the_queue_one_is_told_to_come_again(gate: Event) -> None:
    waiting = start(passwords.QUEUE, lambda: gate.wait(5))
    for refused in (
        lambda: passwords.hashed(b"123456", ROUNDS),
        lambda: passwords.matches(b"123456", "$2b$04$" + "a" * 53, ROUNDS),
        lambda: passwords.matches(b"123456", None, ROUNDS),
    ):
        with pytest.raises(TooBusy) as busy:
            refused()
        assert busy.value.retry_after
    gate.set()
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert all(greenlet.value for greenlet in waiting)


def test_the_queue_is_sixteen_and_a_place_is_given_back_when_the_work_fails() -> None:
    def fail() -> bool:
        raise ValueError("no such hash")

    assert passwords.QUEUE == 16
    for _ in range(passwords.QUEUE + 1):
        with pytest.raises(ValueError, match="no such hash"):
            passwords._natively(fail)
    assert passwords.hashed(b"123456", ROUNDS)


@pytest.mark.parametrize("rounds", [4, 6])
def test_a_name_that_nobody_has_costs_a_hash_of_the_same_cost(
    rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    salts: list[bytes] = []
    hashpw = bcrypt.hashpw

    def counted(password: bytes, salt: bytes) -> bytes:
        salts.append(salt)
        return hashpw(password, salt)

    monkeypatch.setattr(bcrypt, "hashpw", counted)
    assert not passwords.matches(b"123456", None, rounds)
    assert [salt[:7] for salt in salts] == [f"$2b${rounds:02}$".encode()]
