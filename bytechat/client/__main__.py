"""``python -m bytechat.client``: a small chat for a terminal, or for a pipe."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import io
import os
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future

from .client import Client
from .errors import ClientError, Closed, GaveUp
from .events import Connected, Disconnected, Event, Reset
from .shapes import Ack, Message
from .terminal import Lines, harmless
from .web import Web

SHOWN_AT_FIRST = 20

#: Seconds that the last words have to arrive when the input has ended.
LAST_WORDS = 30.0

DESCRIPTION = """\
Talk in a room of a ByteChat server. What you type is said, line by line; what others say is
printed. Ctrl-D or Ctrl-C leaves. It works in pipes too: echo hello | python -m bytechat.client
"""

EPILOG = """\
The password is asked for, or taken from the environment variable BYTECHAT_PASSWORD. When the
connection is lost it comes back by itself, and nothing is missed or said twice. The talk goes to
standard output, everything else to standard error. The exit status is 0 if all that was typed has
been confirmed by the server.
"""


def main(arguments: list[str] | None = None) -> int:
    """Sign in, show what was said last, and talk until the end; the exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    try:
        return _talk(options)
    except (ClientError, ValueError) as error:
        _note(str(error))
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130  # as shells have it for Ctrl-C


def _talk(options: argparse.Namespace) -> int:
    """Raises ClientError, ValueError, KeyboardInterrupt, EOFError before the talk has begun."""
    name, password = _credentials(options.user)
    web = Web(options.url)
    if options.register:
        web.register(name, password)
    token = web.login(name, password).token
    room = int(options.room) if options.room.isdecimal() else options.room
    page = web.history(token, room, limit=SHOWN_AT_FIRST)
    chat = _Chat(room)
    chat.show(page.messages)
    # What is said from here on comes by the socket, whenever that is open.
    return chat.run(Client(options.url, token, since={room: page.head}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bytechat.client",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "url",
        nargs="?",
        default="http://localhost:8080",
        metavar="URL",
        help="the server (default: %(default)s)",
    )
    parser.add_argument("--user", metavar="NAME", help="who you are; asked for if not given")
    parser.add_argument("--register", action="store_true", help="make this account first")
    parser.add_argument(
        "--room", default="lobby", help="a public room's name, or an id (default: %(default)s)"
    )
    return parser


def _credentials(name: str | None) -> tuple[str, str]:
    """Raises ValueError if nobody is there to ask."""
    password = os.environ.get("BYTECHAT_PASSWORD")
    if not sys.stdin.isatty() and (name is None or password is None):
        raise ValueError("In a pipe, give --user, and the password in BYTECHAT_PASSWORD.")
    if name is None:
        name = input("Name: ").strip()
    return name, getpass.getpass() if password is None else password


def _note(text: str) -> None:
    print(f"-- {harmless(text)}", file=sys.stderr, flush=True)


class _Chat:
    """One talk in one room, which is given by its id or its name."""

    def __init__(self, room: int | str) -> None:
        self._room = room
        self._id: int | None = None
        self._lines = Lines()
        self._lost = False
        self._unsaid = False
        self._typed_all = False

    def run(self, client: Client) -> int:
        """Until the input ends, the client gives up, or Ctrl-C."""
        typing = threading.Thread(target=self._say_what_is_typed, args=[client], daemon=True)
        typing.start()
        try:
            for event in client.events():
                self._follow(event)
        except GaveUp as error:
            _note(error.detail)
            self._unsaid = True
        except KeyboardInterrupt:
            _note("Bye.")
        except BrokenPipeError:
            # Nobody reads any more; Python would say so once more when it flushes at its exit.
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        finally:
            client.close(timeout=1)
            if self._typed_all:
                typing.join()  # it may still be telling what was not said
        return 1 if self._unsaid else 0

    def show(self, messages: Iterable[Message]) -> None:
        for message in messages:
            for line in self._lines.of(message):
                print(line)

    def _follow(self, event: Event) -> None:
        if isinstance(event, Connected):
            self._id = next((r.id for r in event.hello.rooms if self._room in {r.id, r.name}), None)
            if self._lost:
                _note("Connected again.")
            else:
                _note(f"You are {event.hello.user.username}. Ctrl-D leaves.")
            self._lost = False
        elif isinstance(event, Disconnected):
            if not self._lost:
                _note(f"Connection lost ({event.reason}), trying again.")
            self._lost = True
        elif isinstance(event, Reset) and event.room == self._id:
            _note("You have missed more than can be shown; this is the end of it.")
            self.show(event.messages[-SHOWN_AT_FIRST:])
        elif isinstance(event, Message) and event.room == self._id:
            self.show([event])

    def _say_what_is_typed(self, client: Client) -> None:
        # Not sys.stdin: a thread that waits in it would stop Python from ending (bpo-42717).
        with open(0, "rb", buffering=0, closefd=False) as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r\n")
                if text.strip():
                    with contextlib.suppress(GaveUp, Closed):
                        client.send(self._room, text).add_done_callback(self._told)
        self._typed_all = True
        client.close(LAST_WORDS)

    def _told(self, sent: Future[Ack]) -> None:
        if error := sent.exception():
            self._unsaid = True
            if not isinstance(error, GaveUp):
                _note(f"Not confirmed: {error}")


if __name__ == "__main__":
    sys.exit(main())
