"""Sockets and who is told what. Knows nothing of Flask or of tables.

Made of threading primitives, which gevent turns into greenlets' own in a worker; so it also runs in
real threads, under ``flask run``.
"""
