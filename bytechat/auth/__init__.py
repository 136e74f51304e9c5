"""Accounts: registering, signing in and out, and who a token speaks for."""

from __future__ import annotations

from flask import Flask

from . import tokens
from .routes import blueprint


def init_app(app: Flask) -> None:
    """Register the blueprint and what flask-jwt-extended asks us about a token."""
    app.register_blueprint(blueprint)
    tokens.init_app(app)
