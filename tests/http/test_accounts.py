"""Registering, signing in, and who one is: POST /register, POST /login, GET /profile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import bcrypt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, insert, select, update

from bytechat.auth import accounts, passwords
from bytechat.extensions import db
from bytechat.models import Member, Message, User, now
from bytechat.storage import transaction

from ..conftest import MakeApp, sign_in
from .conftest import Shared
from .problems import problem

ALICE = {"username": "alice", "password": "123456"}
LOBBY = 1


def register(client: FlaskClient, username: str, password: str = "123456") -> int:
    answer = client.post("/register", json={"username": username, "password": password})
    assert answer.status_code == 201, answer.get_json()
    user_id: int = answer.get_json()["id"]
    return user_id


def login_status(client: FlaskClient, username: str, password: str = "123456") -> int:
    credentials = {"username": username, "password": password}
    return client.post("/login", json=credentials).status_code


# Registering.


def test_registering_answers_with_the_account(client: FlaskClient) -> None:
    answer = client.post("/register", json=ALICE)
    assert answer.status_code == 201
    assert answer.get_json() == {"id": 1, "username": "alice"}
    assert register(client, "bob") == 2


def test_everybody_is_in_the_lobby_from_their_first_minute(
    app: Flask, client: FlaskClient, alice: dict[str, str]
) -> None:
    assert client.get("/rooms/lobby/messages", headers=alice).status_code == 200
    with app.app_context(), transaction() as connection:
        member = connection.execute(select(Member)).one()
    assert (member.room_id, member.user_id, member.role) == (LOBBY, 1, "member")


def test_a_name_is_kept_in_its_one_form_and_shown_as_it_was_typed(client: FlaskClient) -> None:
    answer = client.post("/register", json={"username": "ＪＯＳÉ", "password": "123456"})
    assert answer.get_json()["username"] == "josé"
    for typed in ("josé", "JOSE\u0301", "José"):
        assert login_status(client, typed) == 200
    token = client.post("/login", json={"username": "josé", "password": "123456"}).get_json()
    headers = {"Authorization": f"Bearer {token['token']}"}
    profile = client.get("/profile", headers=headers).get_json()
    assert (profile["username"], profile["display_name"]) == ("josé", "ＪＯＳÉ")
    assert token["user"] == {"id": 1, "username": "josé"}


@pytest.mark.parametrize("again", ["alice", "ALICE", "ａｌｉｃｅ"])
def test_a_name_is_given_once(shared: Shared, hashes: list[bytes], again: str) -> None:
    answer = shared.client.post("/register", json={**ALICE, "username": again})
    problem(answer, 409, "username_taken")
    assert hashes == [], "and costs no hash"


BAD_NAMES = ["a", "a" * 33, "al ice", "al\x00ice", "guest-x", "аlice", "😀😀"]
BAD_PASSWORDS = ["", "12345", "p" * 73, "😀" * 19, "123\x00456"]


@pytest.mark.parametrize("username", BAD_NAMES, ids=ascii)
def test_a_bad_name_is_refused_and_says_which_field(shared: Shared, username: str) -> None:
    answer = shared.client.post("/register", json={**ALICE, "username": username})
    assert list(problem(answer, 422, "validation")["errors"]) == ["username"]


@pytest.mark.parametrize("password", BAD_PASSWORDS, ids=ascii)
def test_a_bad_password_is_refused_and_says_which_field(shared: Shared, password: str) -> None:
    answer = shared.client.post("/register", json={"username": "carol", "password": password})
    assert list(problem(answer, 422, "validation")["errors"]) == ["password"]


@pytest.mark.parametrize("password", ["123456", "p" * 72, "😀" * 18, "cafe\u0301 ☕"])
def test_a_good_password_signs_in_and_nothing_near_it_does(shared: Shared, password: str) -> None:
    name = f"with-{password.encode().hex()[:20]}"
    register(shared.client, name, password)
    assert login_status(shared.client, name, password) == 200
    assert login_status(shared.client, name, password[:-1]) == 401
    assert login_status(shared.client, name, password + " ") == 401


def test_the_shortest_password_is_a_setting(make_app: MakeApp) -> None:
    client = make_app(password_min=10).test_client()
    answer = client.post("/register", json={**ALICE, "password": "123456789"})
    assert "10" in problem(answer, 422, "validation")["detail"]
    assert register(client, "alice", "1234567890") == 1


def test_registration_can_be_closed_while_signing_in_stays_open(make_app: MakeApp) -> None:
    app = make_app(registration=False)
    problem(app.test_client().post("/register", json=ALICE), 403, "registration_closed")
    with app.app_context():
        accounts.register("alice", "123456", password_min=6, rounds=4)
    assert login_status(app.test_client(), "alice") == 200


def test_a_registration_that_fails_leaves_nothing(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), transaction() as connection:
        connection.exec_driver_sql("UPDATE rooms SET name = 'elsewhere'")  # nowhere to put alice
    assert client.post("/register", json=ALICE).status_code >= 400
    with app.app_context(), transaction() as connection:
        assert connection.execute(select(User)).all() == []


def test_the_password_is_stored_as_a_hash_of_the_cost_that_is_set(make_app: MakeApp) -> None:
    app = make_app(bcrypt_rounds=5)
    register(app.test_client(), "alice")
    with app.app_context(), transaction() as connection:
        password_hash = connection.scalars(select(User.password_hash)).one()
    assert password_hash
    assert password_hash.startswith("$2b$05$")
    assert bcrypt.checkpw(b"123456", password_hash.encode())


# Signing in.


def test_signing_in_answers_with_a_token_and_for_how_long(make_app: MakeApp) -> None:
    client = make_app(token_hours=2).test_client()
    register(client, "alice")
    answer = client.post("/login", json=ALICE)
    assert answer.status_code == 200
    body = answer.get_json()
    assert set(body) == {"token", "expires_in", "user"}
    assert body["user"] == {"id": 1, "username": "alice"}
    assert body["expires_in"] == 2 * 3600
    assert "Set-Cookie" not in answer.headers


WRONG = {
    "wrong password": ("alice", "1234567"),
    "other case": ("alice", "ABCDEF"),
    "unknown name": ("nobody", "123456"),
    "name that nobody can have": ("al ice", "123456"),
    "empty name": ("", "123456"),
    "NUL in the name": ("alice\x00", "123456"),
    "long name": ("a" * 10_000, "123456"),
    "name of a guest": ("guest-abcd", "123456"),
    "empty password": ("alice", ""),
    "password over 72 bytes": ("alice", "p" * 73),
    "NUL in the password": ("alice", "123456\x00"),
}


@pytest.mark.parametrize(("username", "password"), WRONG.values(), ids=WRONG)
def test_wrong_credentials_all_get_the_same_answer_at_the_same_cost(
    shared: Shared, username: str, password: str, hashes: list[bytes]
) -> None:
    answer = shared.client.post("/login", json={"username": username, "password": password})
    assert problem(answer, 401, "invalid_credentials") == {
        "title": "The name or the password is wrong",
        "status": 401,
        "detail": "The name or the password is wrong.",
        "code": "invalid_credentials",
    }
    assert [cost[:7] for cost in hashes] == [b"$2b$04$"]


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The salts, or hashes, that bcrypt is given to work with."""
    used: list[bytes] = []
    hashpw, checkpw = bcrypt.hashpw, bcrypt.checkpw

    def counted_hashpw(password: bytes, salt: bytes) -> bytes:
        used.append(salt)
        return hashpw(password, salt)

    def counted_checkpw(password: bytes, password_hash: bytes) -> bool:
        used.append(password_hash)
        return checkpw(password, password_hash)

    monkeypatch.setattr(bcrypt, "hashpw", counted_hashpw)
    monkeypatch.setattr(bcrypt, "checkpw", counted_checkpw)
    return used


@pytest.mark.parametrize("path", ["/register", "/login"])
def test_when_too_many_sign_in_one_is_told_when_to_come_again(shared: Shared, path: str) -> None:
    for _ in range(passwords.QUEUE):
        passwords._places.acquire()
    try:
        answer = shared.client.post(path, json={"username": "carol", "password": "123456"})
    finally:
        passwords._places.release(passwords.QUEUE)
    problem(answer, 429, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert login_status(shared.client, "alice") == 200


@pytest.mark.parametrize("session", ["tokens", "", None, 1, ["cookie"]])
def test_a_session_of_another_kind_is_refused(shared: Shared, session: object) -> None:
    problem(shared.client.post("/login", json={**ALICE, "session": session}), 422, "validation")


def test_no_connection_of_the_database_is_held_while_hashing(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use: list[str] = []
    with app.app_context():
        pool = db.engine.pool
    hashpw = bcrypt.hashpw

    def look(password: bytes, salt: bytes) -> bytes:
        in_use.append(re.findall(r"Current Checked out connections: (\d+)", pool.status())[0])
        return hashpw(password, salt)

    monkeypatch.setattr(bcrypt, "hashpw", look)
    register(client, "alice")
    login_status(client, "nobody")
    assert in_use == ["0", "0"]


# Who one is.


def test_profile_says_who_the_token_speaks_for(
    client: FlaskClient, alice: dict[str, str], bob: dict[str, str]
) -> None:
    for number, (name, headers) in enumerate({"alice": alice, "bob": bob}.items(), start=1):
        profile = client.get("/profile", headers=headers).get_json()
        created_at = profile.pop("created_at")
        assert profile == {"id": number, "username": name, "display_name": name}
        assert created_at.endswith("Z")
        age = datetime.now(UTC) - datetime.fromisoformat(created_at)
        assert timedelta(0) <= age < timedelta(minutes=1)


def test_an_account_that_is_gone_is_signed_out(
    app: Flask, client: FlaskClient, alice: dict[str, str]
) -> None:
    with app.app_context(), transaction() as connection:
        connection.execute(delete(User))
    problem(client.get("/profile", headers=alice), 401, "token_revoked")
    problem(client.get("/rooms/lobby/messages", headers=alice), 401, "token_revoked")


# Guests, who have no password and are gone with their sockets.


@pytest.fixture
def in_app(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def users() -> list[int]:
    with transaction() as connection:
        return list(connection.scalars(select(User.id).order_by(User.id)))


def speak(user_id: int) -> None:
    with transaction() as connection:
        connection.execute(
            insert(Message),
            {
                "room_id": LOBBY,
                "seq": 1,
                "rev": 1,
                "user_id": user_id,
                "kind": "text",
                "text": "hi",
                "created_at": now(),
            },
        )


@pytest.mark.usefixtures("in_app")
def test_a_guest_has_a_guests_name_and_cannot_sign_in(client: FlaskClient) -> None:
    guest = accounts.admit_guest()
    assert re.fullmatch(r"guest-[a-z0-9]{4}", guest.username)
    for password in ("", "123456"):
        assert login_status(client, guest.username, password) == 401


@pytest.mark.usefixtures("in_app")
def test_a_silent_guest_is_forgotten_and_one_who_has_spoken_stays() -> None:
    silent, spoken = accounts.admit_guest(), accounts.admit_guest()
    speak(spoken.id)
    accounts.dismiss_guest(silent.id)
    accounts.dismiss_guest(spoken.id)
    assert users() == [spoken.id]


def test_nobody_but_a_guest_can_be_dismissed(app: Flask, client: FlaskClient) -> None:
    user_id = register(client, "alice")
    with app.app_context():
        accounts.dismiss_guest(user_id)
        accounts.purge_guests(now() + timedelta(days=1))
        assert users() == [user_id]


@pytest.mark.usefixtures("in_app")
def test_the_purge_takes_old_silent_guests_only() -> None:
    old, old_spoken, new = (accounts.admit_guest().id for _ in range(3))
    long_ago = now() - timedelta(hours=2)
    with transaction() as connection:
        connection.execute(
            update(User).where(User.id.in_([old, old_spoken])).values(created_at=long_ago)
        )
    speak(old_spoken)
    accounts.purge_guests(now() - timedelta(hours=1))
    assert users() == [old_spoken, new]


def test_an_id_is_never_given_twice(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        guest = accounts.admit_guest()
        accounts.dismiss_guest(guest.id)
        assert users() == []
    assert register(client, "alice") == guest.id + 1


def test_signing_in_again_is_another_session(client: FlaskClient) -> None:
    alice = sign_in(client, "alice")
    again = client.post("/login", json=ALICE).get_json()["token"]
    assert alice != {"Authorization": f"Bearer {again}"}
    assert client.post("/logout", headers=alice).get_json() == {"revoked": 1}
    headers = {"Authorization": f"Bearer {again}"}
    assert client.get("/profile", headers=headers).status_code == 200
