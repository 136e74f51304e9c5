"""What every answer has: headers that make a browser strict, and a turn for everybody else."""

from __future__ import annotations

from flask import Flask, Response

from .realtime.turns import give_way

#: The page loads its own files and talks to its own server, nothing else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def init_app(app: Flask) -> None:
    """Set the headers on all answers; one that has its own keeps it."""

    @app.after_request
    def let_others_run(response: Response) -> Response:
        # A client that pipelines requests would have the worker for itself: neither reading nor
        # writing waits while there is something to read and room to write.
        give_way()
        return response

    @app.after_request
    def harden(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "no-referrer")
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        if "Cache-Control" not in headers:
            # What an account may read must not outlive its sign-out in a cache.
            headers["Cache-Control"] = "no-store"
        return response
