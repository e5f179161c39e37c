# SPDX-License-Identifier: BSD-2-Clause
"""Pumps, lines and the words of the control channel, without a machine."""

from __future__ import annotations

import os
import socket

import pytest

from capstan.run import console
from capstan.run.console import (
    ControlLine,
    Exited,
    Failed,
    Killed,
    Lines,
    Message,
    Pump,
    Ready,
    Stats,
    Tail,
    Trace,
    Unknown,
    parse_control,
)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("ready", Ready()),
        ("stats calls 5, trapped 1", Stats("calls 5, trapped 1")),
        ("exit 0", Exited(0)),
        ("exit 255", Exited(255)),
        ("exit 256", Unknown("exit 256")),
        ("exit", Unknown("exit")),
        ("exit -1", Unknown("exit -1")),
        ("exit ٣", Unknown("exit ٣")),
        ("killed 9", Killed(9)),
        ("killed 0", Unknown("killed 0")),
        ("failed 127 /x: no such file", Failed(127, "/x: no such file")),
        ("failed 127", Failed(127, "")),
        ("failed no reason", Failed(125, "no reason")),
        ("failed 99 x", Failed(125, "99 x")),
        ("message a  b", Message("a  b")),
        ("message ", Message("")),
        ("trace read(0) = 1", Trace("read(0) = 1")),
        ("", Unknown("")),
        ("Ready", Unknown("Ready")),
    ],
)
def test_control_lines(line: str, event: ControlLine) -> None:
    assert parse_control(line) == event


def test_lines_across_reads() -> None:
    lines = Lines()
    assert lines.feed(b"mess") == []
    assert lines.feed(b"age x\nready\nex") == ["message x", "ready"]
    assert lines.feed(b"it 1\n\xff\n") == ["exit 1", "\ufffd"]


def test_endless_line_is_cut() -> None:
    lines = Lines()
    got = [line for _ in range(20) for line in lines.feed(b"x" * 1000)]
    assert got and all(len(line) == console.LINE_MAX for line in got)


def test_tail_is_bounded() -> None:
    tail = Tail(20)
    for number in range(100):
        tail.feed(b"line %d\r\n\n" % number)
    assert tail.lines(2) == ["line 98", "line 99"]


def pair() -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair()
    one.setblocking(False)
    return one, other


def test_pump_has_back_pressure() -> None:
    source, feeder = pair()
    sink, drain = pair()
    pump = Pump(source.fileno(), sink.fileno())
    feeder.setblocking(False)
    total = 0
    for _ in range(1000):
        try:
            total += feeder.send(b"x" * 4096)
        except BlockingIOError:
            if not pump.wants_read:
                break
            pump.fill()
        pump.drain()
    assert console.BUFFER <= len(pump.buffer) < 2 * console.BUFFER
    feeder.close()
    got = 0
    while not pump.idle:
        got += len(drain.recv(1 << 20))
        if pump.wants_write:
            pump.drain()
        if pump.wants_read:
            pump.fill()
    sink.close()
    while data := drain.recv(1 << 20):
        got += len(data)
    assert got == total == pump.moved


def test_pump_reads_on_when_nobody_listens() -> None:
    source, feeder = pair()
    sink, drain = pair()
    drain.close()
    pump = Pump(source.fileno(), sink.fileno())
    feeder.sendall(b"abc")
    pump.fill()
    pump.drain()
    assert isinstance(pump.error, BrokenPipeError)
    feeder.sendall(b"def")
    assert pump.fill() == b"def" and not pump.buffer


def test_description_of_pipes_and_files() -> None:
    read, write = os.pipe()
    other = os.open("/dev/null", os.O_WRONLY)
    try:
        assert console.describe((read, write, write)).merged
        terminal = console.describe((read, write, other))
        assert (terminal.digits, terminal.merged, terminal.rows) == ("", False, 0)
    finally:
        for fd in (read, write, other):
            os.close(fd)


def test_sink_of_a_pipe_does_not_block() -> None:
    read, write = os.pipe()
    sink, blocks = console.open_sink(write)
    assert not blocks and not os.get_blocking(sink) and os.get_blocking(write)
    for fd in {read, write, sink}:
        os.close(fd)
