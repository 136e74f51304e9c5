"""The page: one template, ES modules without a build step."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint(
    "web", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
)


@blueprint.get("/")
def page() -> str:
    """The page on which one talks."""
    return render_template("page.html")
