"""The Python client against a real server, and the terminal as people start it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bytechat.client import (
    Cache,
    Client,
    Connected,
    Disconnected,
    Message,
    Refused,
    Reset,
    SignInAgain,
    Unreachable,
)
from tests.live.conftest import StartServer
from tests.support.clients import SECONDS, revs, take, threads_of_clients, wait_for
from tests.support.databases import ROOT
from tests.support.people import PASSWORD, Person, unused_name
from tests.support.server import Server

pytestmark = pytest.mark.together


def test_a_bot_registers_signs_in_talks_and_listens(server: Server) -> None:
    name = unused_name("bot")
    user = Client.register(server.url, name, PASSWORD)
    assert user.username == name
    with Client.login(server.url, name, PASSWORD) as bot:
        hello = bot.connected(SECONDS)
        assert (hello.user, bot.user) == (user, user)
        assert [room.name for room in bot.rooms.values()] == ["lobby"]
        question = bot.send("lobby", "why?").result(SECONDS)
        bot.send(question.room, "because", reply_to=question.id)
        asked, answered = take(bot, 2)
        assert (asked.id, asked.text, asked.user) == (question.id, "why?", user)
        assert (answered.reply_to, answered.rev) == (asked.id, asked.rev + 1)
        assert bot.history("lobby", limit=2).messages == (asked, answered)
        assert bot.history("lobby", after=asked.seq).messages == (answered,)


def test_what_the_server_refuses_is_said_with_its_code(server: Server, alice: Person) -> None:
    with pytest.raises(Refused) as refused:
        Client.register(server.url, alice.name, PASSWORD)
    assert (refused.value.code, refused.value.status) == ("username_taken", 409)
    with pytest.raises(Refused) as refused:
        Client.login(server.url, alice.name, "wrong" + PASSWORD)
    assert (refused.value.code, refused.value.status) == ("invalid_credentials", 401)
    with Client(server.url, alice.token) as client:
        for room, text, code in (("nowhere", "hi", "not_found"), ("lobby", " ", "validation")):
            with pytest.raises(Refused) as refused:
                client.send(room, text).result(SECONDS)
            assert refused.value.code == code
        with pytest.raises(Refused) as refused:
            client.history("nowhere")
        assert refused.value.code == "not_found"
        assert client.send("lobby", "still here").result(SECONDS)


def test_a_server_that_is_not_there_is_an_error_of_its_own(server: Server) -> None:
    with pytest.raises(Unreachable):
        Client.login("http://127.0.0.1:1", "alice", PASSWORD)
    with pytest.raises(Refused, match="method_not_allowed"):
        Client.login(f"{server.url}/static", "alice", PASSWORD)


def test_who_is_signed_out_gives_up_and_says_so(alice: Person) -> None:
    with closing(Client(alice.server.url, alice.token)) as client:
        client.connected(SECONDS)
        alice.post("/logout")
        with pytest.raises(SignInAgain) as over:
            list(client.events())
        assert over.value.close_code == 4401
    with closing(Client(alice.server.url, alice.token)) as client:
        with pytest.raises(SignInAgain, match="token_revoked") as over:
            client.connected(SECONDS)
        assert (over.value.status, over.value.code) == (401, "token_revoked")


def test_a_client_goes_through_a_restart_of_the_server(start_server: StartServer) -> None:
    server = start_server()
    with closing(Client(server.url, Person(server).token)) as client:
        client.send("lobby", "before").result(SECONDS)
        server.terminate()
        while (lost := wait_for(client, Disconnected)).code != 1012:
            pass
        assert 0.5 <= lost.wait <= 3, "the goodbye's time, not one of ours"
        sent = client.send("lobby", "meanwhile")
        server.start()
        wait_for(client, Connected)
        assert sent.result(30).seq == 2
        assert [m.text for m in take(client, 1)] == ["meanwhile"]


def test_what_was_missed_is_made_up_for_on_the_real_server(alice: Person, bob: Person) -> None:
    url = alice.server.url
    with Client(url, alice.token) as hers, Client(url, bob.token) as his:
        start = hers.connected(SECONDS).rooms[0].head
        for number in range(450):
            his.send("lobby", str(number))
        assert his.flush(SECONDS)
    with Client(url, alice.token, since={"lobby": start}) as again:
        got = take(again, 450)
    assert [m.text for m in got] == [str(number) for number in range(450)]
    assert revs(got) == list(range(start + 1, start + 451))


def test_who_is_over_a_thousand_changes_behind_gets_the_newest_page(alice: Person) -> None:
    url = alice.server.url
    with Client(url, alice.token) as client:
        start = client.connected(SECONDS).rooms[0].head
        for number in range(1100):
            client.send("lobby", str(number))
        assert client.flush(60)
    cache, resets = Cache(), 0
    with Client(url, alice.token, since={"lobby": start}) as client:
        client.connected(SECONDS)
        client.send("lobby", "after").result(SECONDS)
        for event in client.events():
            cache.apply(event)
            resets += isinstance(event, Reset)
            if isinstance(event, Message) and event.text == "after":
                break
        assert resets == 1
        room = next(iter(client.rooms))
        newest = client.history(room).messages
        assert tuple(cache.messages(room))[-len(newest) :] == newest


def test_the_bot_of_the_guide_answers_each_message_once(
    alice: Person, bob: Person, tmp_path: Path
) -> None:
    (script,) = re.findall(r"(?s)```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text())
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BOT_URL": alice.server.url,
        "BOT_NAME": bob.name,
        "BOT_PASSWORD": PASSWORD,
    }

    def start() -> subprocess.Popen[bytes]:
        bot = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environ)
        while not (tmp_path / "echo-bot.json").exists():
            assert bot.poll() is None
            time.sleep(0.05)
        return bot

    with Client(alice.server.url, alice.token) as client:
        bot = start()
        try:
            hello = client.send("lobby", "hello").result(SECONDS)
            assert take(client, 2)[1].text == "You said: hello"
        finally:
            bot.kill()
            bot.wait()
        # As if it had died before it wrote where it was: it answers again, and is not heard twice.
        (tmp_path / "echo-bot.json").write_text(f'{{"{hello.room}": {hello.rev - 1}}}')
        bot = start()
        try:
            client.send("lobby", "again").result(SECONDS)
            assert [m.text for m in take(client, 2)] == ["again", "You said: again"]
        finally:
            bot.kill()
            bot.wait()


def test_nothing_of_a_client_is_left_behind(alice: Person) -> None:
    with Client(alice.server.url, alice.token) as client:
        client.connected(SECONDS)
    assert threads_of_clients() == set()


def terminal(*arguments: str, said: str = "", password: str = PASSWORD) -> tuple[int, str, str]:
    """``python -m bytechat.client`` in a pipe; its status, what it printed, and its notes."""
    done = subprocess.run(
        [sys.executable, "-m", "bytechat.client", *arguments],
        cwd=ROOT,
        env={**os.environ, "BYTECHAT_PASSWORD": password},
        input=said.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.any_database
def test_the_terminal_says_what_a_pipe_gives_it(alice: Person) -> None:
    name = unused_name("carol")
    words = "first\n\n  second \u2603\nlast, without an end of line"
    status, _, notes = terminal(alice.server.url, "--user", name, "--register", said=words)
    assert (status, "Traceback" in notes) == (0, False), notes
    said = [m["text"] for m in alice.history() if m["user"]["username"] == name]
    assert said == ["first", "  second \u2603", "last, without an end of line"]
    with alice.talk() as talk:
        talk.say("\x1b[2Jboo\nand more")
    _, out, _ = terminal(alice.server.url, "--user", name)
    lines = [line[6:] for line in out.splitlines()]
    assert lines[-5:] == [
        f"{name}: first",
        f"{name}:   second \u2603",
        f"{name}: last, without an end of line",
        f"{alice.name}: \ufffd[2Jboo",
        "| and more",
    ]


@pytest.mark.any_database
def test_the_terminal_says_in_a_line_why_it_cannot_go_on(alice: Person) -> None:
    url = alice.server.url
    for arguments, password, why in (
        ([url, "--user", alice.name], "wrong!", "invalid_credentials"),
        ([url, "--user", alice.name, "--register"], PASSWORD, "username_taken"),
        ([url, "--user", alice.name, "--room", "nowhere"], PASSWORD, "not_found"),
        ([url], PASSWORD, "--user"),
        (["http://127.0.0.1:1", "--user", alice.name], PASSWORD, "does not answer"),
        (["localhost", "--user", alice.name], PASSWORD, "http://"),
    ):
        status, out, notes = terminal(*arguments, password=password)
        assert (status, out) == (1, "")
        assert why in notes
        assert len(notes.splitlines()) == 1


@pytest.mark.any_database
def test_the_terminal_tells_what_was_not_said(alice: Person) -> None:
    words = "x" * 5000 + "\nshort\n"
    status, _, notes = terminal(alice.server.url, "--user", alice.name, said=words)
    assert status == 1
    assert "4000 characters" in notes
    assert alice.history()[-1]["text"] == "short"


@pytest.mark.any_database
def test_the_terminal_leaves_on_ctrl_c_without_a_word_too_much(alice: Person, bob: Person) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bytechat.client", alice.server.url, "--user", alice.name],
            cwd=ROOT,
            env={**os.environ, "BYTECHAT_PASSWORD": PASSWORD},
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        os.write(ours, b"typed\n")
        assert f"You are {alice.name}".encode() in process.stderr.readline()
        with bob.talk() as talk:
            talk.say("for alice")
            while b"for alice" not in process.stdout.readline():
                pass
        process.send_signal(signal.SIGINT)
        _, notes = process.communicate(timeout=20)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0
    assert b"Traceback" not in notes
    assert b"Fatal" not in notes
    assert "typed" in [m["text"] for m in bob.history() if m["user"]["id"] == alice.id]


def test_the_terminal_explains_itself() -> None:
    status, out, _ = terminal("--help")
    assert status == 0
    for word in ("URL", "--user", "--register", "--room", "BYTECHAT_PASSWORD", "Ctrl-D"):
        assert word in out
