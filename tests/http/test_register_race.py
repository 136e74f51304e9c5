"""Of many who register one name at the same moment, one gets it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from flask import Flask
from sqlalchemy import select

from bytechat.auth import passwords
from bytechat.models import Member, User
from bytechat.storage import transaction

THREADS = 8


def test_one_gets_the_name_and_the_others_are_told_that_it_is_taken(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Barrier(THREADS)
    hashed = passwords.hashed

    def all_at_once(password: bytes, rounds: int) -> str:
        together.wait(20)  # all have looked, and nobody had the name
        return hashed(password, rounds)

    monkeypatch.setattr(passwords, "hashed", all_at_once)

    def register(_number: int) -> int:
        credentials = {"username": "alice", "password": "123456"}
        return app.test_client().post("/register", json=credentials).status_code

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = Counter(pool.map(register, range(THREADS)))
    assert statuses == {201: 1, 409: THREADS - 1}
    with app.app_context(), transaction() as connection:
        (user_id,) = connection.scalars(select(User.id))
        assert connection.scalars(select(Member.user_id)).all() == [user_id]


def test_many_who_register_other_names_all_get_theirs(app: Flask) -> None:
    def register(number: int) -> tuple[int, int]:
        credentials = {"username": f"user{number}", "password": "123456"}
        answer = app.test_client().post("/register", json=credentials)
        return answer.status_code, answer.get_json()["id"]

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(register, range(THREADS)))
    assert [status for status, _ in answers] == [201] * THREADS
    assert len({user_id for _, user_id in answers}) == THREADS
