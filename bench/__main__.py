"""``python -m bench``: measure ByteChat and its rivals on this machine."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path

from tests.support.databases import Databases

from . import durable, growth, machine, many, others, report, scenarios
from .scenarios import Scenario
from .setting import Bench, Sizes
from .subjects import DATABASES, ByteChat, Prototype, Subject
from .tables import Table, terminal

SCENARIOS: dict[str, Scenario] = {
    "room": scenarios.room,
    "crowd": scenarios.crowd,
    "rooms": scenarios.rooms,
    "pairs": scenarios.pairs,
    "slow": scenarios.slow,
    "ingest": durable.ingest,
    "logins": durable.logins,
    "history": durable.history,
    "workers": many.workers,
    "hints": many.hints,
    "storm": many.storm,
    "growth": growth.growth,
}

#: Their figures are on a page of their own.
WITH_SEVERAL = ("workers", "hints", "storm", "growth")

RIVALS = {rival.name.lower().replace(" ", "-"): rival for rival in others.ALL}

EPILOG = f"""scenarios:
{chr(10).join(f"  {name:10}{(run.__doc__ or '').strip()}" for name, run in SCENARIOS.items())}

rivals:
{chr(10).join(f"  {name:16}{rival.about}" for name, rival in RIVALS.items())}

examples:
  python -m bench --quick                         everything, small, in two minutes
  python -m bench room --rivals node-ws           one scenario beside one rival
  python -m bench room crowd --rivals none        ByteChat alone
  python -m bench ingest --databases postgresql   on one database
  python -m bench {" ".join(WITH_SEVERAL):32} what several workers do

docs/performance.md says what is measured, and how; docs/scaling.md has the figures of several
workers. Rivals are installed into .bench/ on first use.
"""


def arguments(words: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure ByteChat and its rivals under the same load, on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("scenarios", nargs="*", metavar="SCENARIO", help="what to measure; all of it by default")
    add(
        "--quick",
        action="store_true",
        help="small sizes, short phases, two rivals in one scenario: does it work?",
    )
    add("--rivals", metavar="NAMES", help="with commas between; all (the default), or none")
    add(
        "--databases",
        metavar="KINDS",
        help="of ByteChat; the first is compared with the rivals (postgresql,sqlite)",
    )
    add("--clients", type=int, metavar="N", help="clients of the one room (1,000)")
    add("--crowd", type=int, metavar="N", help="clients of the crowd (5,000)")
    add("--storm-clients", type=int, metavar="N", help="clients of the storm (5,000)")
    add("--history", type=int, metavar="N", help="messages to read in (1,000,000)")
    add("--seconds", type=float, metavar="S", help="of ByteChat's long phases (20)")
    add("--prototype", type=Path, metavar="PATH", help="a prototype.py to measure in the same run")
    add("--write", action="store_true", help="write the figures into docs/ of what was measured")
    add("--json", type=Path, metavar="PATH", help="write all that was measured to this file")
    chosen = parser.parse_args(words)
    chosen.scenarios = chosen.scenarios or list(SCENARIOS)
    chosen.rivals = chosen.rivals or ("node-ws,kernel-floor" if chosen.quick else "all")
    chosen.databases = chosen.databases or ("sqlite" if chosen.quick else "postgresql,sqlite")
    chosen.rivals = {"all": list(RIVALS), "none": []}.get(chosen.rivals, chosen.rivals.split(","))
    chosen.databases = chosen.databases.split(",")
    for what, names, known in (
        ("scenario", chosen.scenarios, SCENARIOS),
        ("rival", chosen.rivals, RIVALS),
        ("database", chosen.databases, DATABASES),
    ):
        for name in names:
            if name not in known:
                parser.error(f"there is no {what} {name!r}; there are: {', '.join(known)}")
    return chosen


def sizes(chosen: argparse.Namespace) -> Sizes:
    """The sizes of this run."""
    found = Sizes().quick() if chosen.quick else Sizes()
    given = {
        name: getattr(chosen, name)
        for name in ("clients", "crowd", "storm_clients", "history", "seconds")
    }
    return replace(found, **{name: value for name, value in given.items() if value is not None})


def main(words: list[str] | None = None) -> int:
    """Measure what the command line says; 1 if something could not be measured."""
    chosen = arguments(words)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers inherit it
    databases = Databases()
    subjects: list[Subject] = [ByteChat(chosen.databases[0], databases)]
    if chosen.prototype:
        subjects.append(Prototype(chosen.prototype, chosen.databases[0], databases))
    subjects += [RIVALS[name] for name in chosen.rivals]
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {what}", file=sys.stderr, flush=True)

    bench = Bench(sizes(chosen), subjects, databases, chosen.databases, say)
    alone = replace(bench, subjects=[subject for subject in subjects if subject.durable])
    tables: dict[str, list[Table]] = {}
    failed = False
    try:
        for name in chosen.scenarios:
            try:
                found = SCENARIOS[name](alone if chosen.quick and name != "room" else bench)
            except Exception:
                # Minutes of measuring stand before it, which must not be lost.
                traceback.print_exc()
                failed = True
                continue
            tables[name] = found
            print("\n", *(terminal(table) + "\n" for table in found), sep="\n", flush=True)
    finally:
        databases.close()
    say("done")
    about = machine.described()
    every = [table for found in tables.values() for table in found]
    if chosen.json:
        rows = [{**asdict(table), "columns": None} for table in every]
        chosen.json.write_text(json.dumps({"machine": about, "tables": rows}, indent=1))
    if chosen.write:
        for page, several in ((report.PAGE, False), (report.SCALING, True)):
            own = [
                table
                for name in tables
                for table in tables[name]
                if (name in WITH_SEVERAL) == several
            ]
            if own:
                report.write(own, about, page)
    return int(failed or any(not row.values for table in every for row in table.rows))


if __name__ == "__main__":
    sys.exit(main())
