"""Rooms and messages: the rules, the log, and how they are reached over HTTP and sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import runtime, socket
from .routes import blueprint

if TYPE_CHECKING:
    from flask import Flask

    from ..config import Settings


def init_app(app: Flask, settings: Settings) -> None:
    """Register the blueprint with its socket, and make what a worker keeps while it runs."""
    app.config["SOCK_SERVER_OPTIONS"] = socket.SERVER_OPTIONS
    app.register_blueprint(blueprint)
    runtime.init_app(app, settings)
