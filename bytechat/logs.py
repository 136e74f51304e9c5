"""Log lines: key=value, one event a line, and never a token in them."""

from __future__ import annotations

import logging
import re
from typing import Any

from logfmter import Logfmter

#: A token in a URL, and whatever looks like a JSON Web Token (its header begins with ``{"``).
_SECRETS = re.compile(r"(?<=token=)[^\s&\"']+|eyJ[\w-]+\.[\w-]+\.[\w-]*")


class RedactingFormatter(Logfmter):
    """The last thing that a line passes, tracebacks included: servers log URLs in their errors."""

    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.sub("[redacted]", super().format(record))


def config(level: str) -> dict[str, Any]:
    """For logging.config.dictConfig(), and for gunicorn's logconfig_dict."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": RedactingFormatter,
                "keys": ["at", "level", "logger"],
                "mapping": {"at": "asctime", "level": "levelname", "logger": "name"},
                "datefmt": "%Y-%m-%dT%H:%M:%S%z",
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            "alembic.runtime.plugins": {"level": "WARNING"},
            # gunicorn gives these levels and handlers of their own; here all lines go one way.
            "gunicorn.error": {"level": level.upper(), "handlers": [], "propagate": True},
            "gunicorn.access": {"level": level.upper(), "handlers": [], "propagate": True},
        },
    }
