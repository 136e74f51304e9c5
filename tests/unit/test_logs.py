"""Log lines: one event a line, key=value, and no token whichever way it comes."""

from __future__ import annotations

import io
import logging
import logging.config
import sys
from collections.abc import Callable, Iterator

import pytest

from bytechat import logs

#: As flask-jwt-extended makes them: header, claims, signature.
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    ".eyJzdWIiOiIxIiwianRpIjoiYTdmMi0xIn0"
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)
CLAIMS = JWT.split(".")[1]


@pytest.fixture
def lines() -> Iterator[Callable[[], list[str]]]:
    """What the logger "bytechat.test" has written until now, as logs.config() sets it up."""
    config = logs.config("info")
    stream = io.StringIO()
    formatter = config["formatters"]["line"]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        formatter["()"](**{name: value for name, value in formatter.items() if name != "()"})
    )
    logger = logging.getLogger("bytechat.test")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    logger.propagate = False
    yield lambda: stream.getvalue().splitlines()
    logger.removeHandler(handler)
    logger.propagate = True


log = logging.getLogger("bytechat.test")


def test_a_line_says_when_how_bad_where_and_what(lines: Callable[[], list[str]]) -> None:
    log.warning("the database failed %s", "twice", extra={"room": 7, "address": "::1"})
    (line,) = lines()
    at, rest = line.split(" ", 1)
    assert at.startswith("at=20")
    assert "T" in at
    assert rest == (
        'level=WARNING logger=bytechat.test msg="the database failed twice" room=7 address=::1'
    )


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines",
        "two\r\nlines",
        'a "quoted" = sign',
        "a\tb",
        "\x1b[31mred\x00",
        'forged\nat=2030-01-01 level=ERROR logger=bytechat msg="all is lost"',
    ],
)
def test_one_event_is_one_line_whatever_is_in_it(text: str, lines: Callable[[], list[str]]) -> None:
    log.info(text)
    log.info("%s", text)
    log.info("extra", extra={"said": text, "name \n": "key"})
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("it failed")
    written = lines()
    assert len(written) == 4
    assert all(line.startswith("at=20") for line in written)
    assert not any(control in "".join(written) for control in "\x1b\x00\t\r")


@pytest.mark.parametrize(
    "text",
    [
        f"GET /ws?token={JWT}",
        f"GET /ws?a=1&token={JWT}&b=2",
        f"Authorization: Bearer {JWT}",
        f"cookie bytechat_session={JWT}; bytechat_csrf=x",
        f"('{JWT}',)",
        f"{JWT[:-20]}",
        f"\n{JWT}\n",
        "GET /ws?token=an-opaque.secret%20one HTTP/1.1",
        "'/ws?token=an-opaque.secret%20one'",
        '"/ws?token=an-opaque.secret%20one"',
    ],
    ids=range(10),
)
def test_no_token_gets_into_the_log(text: str, lines: Callable[[], list[str]]) -> None:
    log.info(text)
    log.info("%s and %r", text, {"url": text})
    log.info("extra", extra={"url": text, "nested": {"url": text}})
    log.info({"url": text})
    try:
        raise ValueError(text)
    except ValueError as error:
        log.exception("it failed")
        log.warning("it failed", extra={"error": repr(error)})
    written = "".join(lines())
    assert CLAIMS not in written
    assert "an-opaque" not in written
    assert "secret" not in written
    assert written.count("[redacted]") >= 7


def test_what_stands_beside_a_token_stays(lines: Callable[[], list[str]]) -> None:
    log.info("GET /ws?token=%s&room=7 from %s", JWT, "alice")
    (line,) = lines()
    assert line.endswith('msg="GET /ws?token=[redacted]&room=7 from alice"')


def test_gunicorns_lines_go_the_same_way() -> None:
    config = logs.config("debug")
    for name in ("gunicorn.error", "gunicorn.access"):
        assert config["loggers"][name] == {"level": "DEBUG", "handlers": [], "propagate": True}
    assert config["root"] == {"level": "DEBUG", "handlers": ["stderr"]}


def test_the_configuration_is_one_that_logging_takes(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logging.config.dictConfig(logs.config("warning"))
        handler = root.handlers[-1]
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(sys.stderr)
        logging.getLogger("gunicorn.error").error("GET /ws?token=%s", JWT)
        logging.getLogger("bytechat").info("not worth a line")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "level=ERROR logger=gunicorn.error" in printed
    assert "token=[redacted]" in printed
