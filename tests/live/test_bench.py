"""The bench's quick form runs against ByteChat, and it counts right."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench import drive, report, wire, worlds
from bench.clients import Counted, Marked, Sampled
from bench.device import Device
from bench.machine import described
from bench.plan import Phase
from bench.subjects import ByteChat
from bench.tables import Column, Row, Table
from tests.support.databases import ROOT, Databases


def test_the_quick_bench_measures_bytechat(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    words = (
        "room --quick --rivals kernel-floor --databases sqlite --clients 30 --seconds 0.5 --json"
    )
    subprocess.run([sys.executable, "-m", "bench", *words.split(), found], cwd=ROOT, check=True)
    for table in json.loads(found.read_text())["tables"]:
        ours = table["rows"][0]
        assert ours["name"] == "ByteChat, SQLite"
        assert ours["values"]["complete"], table["title"]
        assert ours["values"]["cpu_us_each"] > 0


def test_every_delivery_and_every_ack_is_counted_and_nothing_else(databases: Databases) -> None:
    layout = [["lobby"]] * 20
    world = worlds.build(databases.fresh("sqlite"), layout)
    with worlds.bytechat(world) as stand:
        load = drive.spec(stand, layout, drive.crowd(layout, 3))
        phases = [Phase("steady", 0.5, 100), Phase("open", 0.5, window=50)]
        results = drive.run(load, phases)
    assert results["connect"]["clients"] == 20
    for name in ("steady", "open"):
        seen = results[name]
        assert seen["complete"]
        assert seen["sent"] > 0
        assert seen["acks"] == seen["sent"]
        assert seen["deliveries"] == seen["owed"] == seen["sent"] * 20
        assert seen["gaps"] == seen["disorder"] == seen["closed"] == 0
        assert 0 < seen["p50_ms"] <= seen["p99_ms"] <= seen["max_ms"]


def test_clients_are_spread_over_the_workers_which_tell_each_other(databases: Databases) -> None:
    layout = [["lobby"]] * 8
    cast = drive.Cast(["marked", "sampled"] * 4, [(2 * n, "lobby") for n in range(4)])
    with ByteChat("postgresql", databases, workers=2).stand(layout) as stand:
        assert len(set(stand.ports)) == len(set(stand.pids)) == 2
        results = drive.run(drive.spec(stand, layout, cast), [Phase("steady", 1, 100)])
    seen = results["steady"]
    assert seen["complete"]
    assert seen["deliveries"] == seen["sent"] * 8
    # All speak at the first, and only the second has who reads every frame.
    assert seen["acks"] == seen["sent"]
    assert seen["p50_ms"] > 0
    assert len(seen["cpu_us_by_worker"]) == 2
    assert seen["cpu_us_by_engine"]["PostgreSQL"] > 0


def test_who_comes_back_from_a_killed_worker_is_seen_to_have_everything(
    databases: Databases,
) -> None:
    layout = [["lobby"]] * 20
    cast = drive.Cast(["sampled"] * 20, [(n, "lobby") for n in range(4)])
    with ByteChat("postgresql", databases, workers=2).stand(layout) as stand:
        load = drive.spec(stand, layout, cast)
        seen = drive.run(load, [Phase("one", 0, patience=60)], module="bench.storm")["one"]
    assert seen["lost"] == 10
    assert seen["complete"]
    assert seen["said"] > 0
    assert seen["missing"] == 0
    assert 0 < seen["half_s"] <= seen["complete_s"]


def test_a_device_is_complete_when_it_has_all_that_was_said_before_its_hello() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        device = Device(0, lambda _port: b"")
        device.sock, device.have = here, 5

        def told(moment: float, *payloads: bytes) -> None:
            there.sendall(b"".join(b"\x81\x7e" + len(p).to_bytes(2, "big") + p for p in payloads))
            device.read(moment)

        there.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        device.read(1)
        pad = b" " * 130
        told(2, b'{"type":"hello","rooms":[{"id":1,"head":8}]}' + pad)
        assert device.talking
        assert b'"since": 5' in there.recv(1000)
        told(3, b'{"type":"message","rev":9}' + pad)
        assert (device.have, device.complete_at) == (5, 0)
        told(4, b'{"type":"sync","messages":[{"rev":6},{"rev":7}],"more":true}' + pad)
        assert b'"since": 7' in there.recv(1000)
        assert (device.have, device.complete_at) == (7, 0)
        told(5, b'{"type":"sync","messages":[{"rev":8}],"more":false}' + pad)
        assert (device.have, device.complete_at) == (9, 5)


def test_a_message_is_counted_once_however_it_is_cut() -> None:
    text = wire.MARK + b"%020d" % 5000 + b" hello"
    message = b'{"type":"message","rev":%d,"text":"' + text + b'"}'
    frames = b"".join(
        b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload
        for payload in (
            message % 1 + b" " * 99,
            b'{"type":"ack"}' + b" " * 130,
            message % 2 + b" " * 99,
        )
    )
    for cut in range(len(frames) + 1):
        here, there = socket.socketpair()
        with here, there:
            marked, sampled = Marked(here, ["a"]), Sampled(here, ["a"])
            for client in (marked, sampled):
                client.take(frames[:cut])
                client.take(frames[cut:])
                assert client.marks == 2
            assert marked.acks == 1
            assert sampled.gaps == 0


def test_bytes_that_the_kernel_throws_away_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    with here, there:
        counted = Counted(here, ["a"])
        there.sendall(b"x" * 1000)
        there.shutdown(socket.SHUT_WR)
        while not counted.closed:
            counted.read()
        assert counted.octets == 1000


def test_the_page_keeps_its_words_and_gets_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.begin()}\nold\n{report.end()}\nafter\n")
    monkeypatch.setattr(report, "CHART", tmp_path / "performance.svg")
    columns = [Column("deliveries/s", "deliveries_per_s", ratio=True)]
    table = Table("One room of 9, open throttle", "As fast as it goes.", columns)
    table.rows = [Row("ByteChat", {"deliveries_per_s": 1000.0}), Row("other", note="not there")]
    report.write([table], described(), page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| ByteChat | 1,000 |" in text
    assert "| other | - | not there |" in text
    assert "ByteChat" in report.CHART.read_text()
