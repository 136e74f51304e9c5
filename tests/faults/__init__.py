"""Something goes wrong while people talk. What notices when a remedy is taken out, as was tried:

no sweep at all
    test_bus.py, a bus that is cut or away: what is said while it is away is never heard.
    test_presence.py: the socket of who signs out stays open, who was killed stays online.
the bus comes back, and nobody sweeps
    tests/http/test_neighbours.py, a line that was cut: no sweep within 10 s. Nothing in here, as
    the next sweep is never further away than a second.
``id >`` in place of ``rev >`` where a log is read
    tests/unit/test_delivery.py: it does not come to rest. Nothing in here: ids and revs rise
    together as long as nobody edits.
writing to the socket below the outbox
    test_clients.py, who does not read: a frame is torn, and its JSON malformed.
    tests/live/test_stop.py, a stalled reader: frames are not whole, 4408 never comes.
"""
