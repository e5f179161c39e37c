# SPDX-License-Identifier: BSD-2-Clause
"""The control socket of an instance, and QEMU's monitor, without a machine."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capstan.errors import MachineError
from capstan.run import control, qmp
from capstan.run.control import Client, Connection, NoAnswer, Server


class Owner:
    """A server in a thread, as the poll loop of an owner would drive it."""

    def __init__(self, path: Path) -> None:
        self.server = Server(path, self.handle)
        self.seen: list[Any] = []
        self.kept: list[Client] = []
        self.stopping = False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def handle(self, client: Client, message: Any) -> None:
        self.seen.append(message)
        match message["op"]:
            case "echo":
                client.answer(text=message["text"])
            case "refuse":
                client.answer(error="no", hint="ask again")
            case "wait":
                self.kept.append(client)

    def work(self) -> None:
        while not self.stopping:
            poll = select.poll()
            for fd, mask in self.server.wants().items():
                poll.register(fd, mask)
            self.server.serve(dict(poll.poll(10)))

    def end(self) -> None:
        self.stopping = True
        self.thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    deep = tmp_path / ("d" * 60) / ("e" * 60)  # longer than the path of a socket may be
    deep.mkdir(parents=True)
    return deep / "control"


@pytest.fixture
def owner(path: Path) -> Iterator[Owner]:
    made = Owner(path)
    yield made
    made.end()
    made.server.close()


def test_question_and_answer(owner: Owner, path: Path) -> None:
    with Connection(path) as one, Connection(path) as two:
        one.send("echo", text="x" * 100_000)
        two.send("echo", text="\udcff")
        assert two.receive(5) == {"text": "\udcff"}
        assert one.receive(5) == {"text": "x" * 100_000}


def test_refusal_has_a_hint(owner: Owner, path: Path) -> None:
    with Connection(path) as one:
        one.send("refuse")
        with pytest.raises(MachineError, match="no") as caught:
            one.receive(5)
    assert caught.value.hint == "ask again"


def test_late_answer_and_none(owner: Owner, path: Path) -> None:
    with Connection(path) as one:
        one.send("wait")
        with pytest.raises(NoAnswer):
            one.receive(0.05)
        owner.end()
        owner.kept[0].answer(status=3)
        owner.server.close()
        assert one.receive(5) == {"status": 3}
        assert one.receive(5) is None


@pytest.mark.parametrize("line", [b"\xff\n", b"[]\n", b'{"op": 5}\n', b"{}\n"])
def test_garbage_is_refused(owner: Owner, path: Path, line: bytes) -> None:
    with Connection(path) as one:
        one._sock.sendall(line)
        with pytest.raises(MachineError, match="not a request"):
            one.receive(5)
    assert not owner.seen


def test_endless_line_ends_the_connection(owner: Owner, path: Path) -> None:
    with Connection(path) as one:
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            for _ in range(100):
                one._sock.sendall(b"x" * control.LINE_MAX)
        assert one.receive(5) is None


def test_nobody_listens(path: Path) -> None:
    with pytest.raises(MachineError, match="does not answer"):
        Connection(path)
    Server(path, lambda *_: None).close()
    with pytest.raises(MachineError, match="does not answer"):
        Connection(path)  # the socket of a process that is gone


# --- QEMU's monitor ---


class Qemu:
    """The other end of a monitor."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair()
        self.ours = ours
        self.states: list[str] = []
        self.monitor = qmp.Monitor(ours, self.states.append)

    def say(self, *messages: object) -> None:
        data = b"".join(json.dumps(message).encode() + b"\r\n" for message in messages)
        self.monitor.feed(data[:10])
        self.monitor.feed(data[10:])

    def orders(self) -> list[dict[str, Any]]:
        text = bytes(self.monitor.orders.buffer)
        self.monitor.orders.buffer.clear()
        return [json.loads(line) for line in text.splitlines()]

    def greet(self) -> None:
        self.monitor.start()
        self.say({"QMP": {"version": {}, "capabilities": []}})
        (first,) = self.orders()
        assert first["execute"] == "qmp_capabilities"
        self.say({"return": {}, "id": first["id"]})


def test_commands_wait_for_the_negotiation() -> None:
    qemu, answers = Qemu(), []
    qemu.monitor.execute("stop", lambda answer: answers.append((answer.value, answer.error)))
    assert not qemu.monitor.quit()  # nobody to ask yet
    qemu.greet()
    status, stop = qemu.orders()
    assert (status["execute"], stop["execute"]) == ("query-status", "stop")
    qemu.say({"event": "RESUME"}, {"id": stop["id"], "error": {"class": "x", "desc": "bad"}})
    assert answers == [(None, "bad")]
    assert qemu.monitor.quit() and qemu.orders()[0]["execute"] == "quit"


@pytest.mark.parametrize(("state", "told"), [("internal-error", True), ("paused", False)])
def test_a_broken_machine_is_told(state: str, told: bool) -> None:
    qemu = Qemu()
    qemu.greet()
    qemu.orders()
    qemu.say({"event": "STOP"})
    (asked,) = qemu.orders()
    qemu.say({"return": {"status": state}, "id": asked["id"]})
    assert qemu.states == ([state] if told else [])


@pytest.mark.parametrize("data", [b"", b"no json\n", b"x" * (2 << 20)])
def test_the_end_answers_everybody(data: bytes) -> None:
    qemu, errors = Qemu(), []
    qemu.greet()
    qemu.monitor.execute("stop", lambda answer: errors.append(answer.error))
    qemu.monitor.feed(data)
    assert len(errors) == 1 and errors[0]
    assert not qemu.monitor.quit()
