# SPDX-License-Identifier: BSD-2-Clause
"""A stand-in for QEMU plus guest: the launcher's protocol, with a host program as "the guest's".

It takes the command line that `qemu_argv` makes, finds the inherited sockets and parameters in
it, runs the program of the parameters with pipes, and talks on the control channel as the guest
does. The variable FAKE in the program's environment asks for misbehaviour; see `main`.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path


class Control:
    """The control channel: orders in, events out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.eof = threading.Event()
        self.eof_at = -1
        self.child: subprocess.Popen[bytes] | None = None
        self.log: socket.socket | None = None

    def tell(self, line: str) -> None:
        self._sock.sendall(line.encode() + b"\n")

    def listen(self) -> None:
        for raw in self._sock.makefile("rb"):
            word, *rest = raw.decode().split()
            if self.log is not None:
                self.log.sendall(b"order " + raw)
            if word == "eof":
                self.eof_at = int(rest[0])
                self.eof.set()
            elif self.child is not None and word in ("signal", "stop"):
                self.child.send_signal(int(rest[0]) if rest else signal.SIGTERM)


def feed(port: socket.socket, control: Control, sink: int) -> None:
    """Port 0 to the program's stdin, closed at the byte that `eof` names."""
    done = 0
    while control.eof_at < 0 or done < control.eof_at:
        if not select.select([port], [], [], 0.01)[0]:
            continue
        data = port.recv(65536)
        if not data:
            break
        done += len(data)
        try:
            while data:
                data = data[os.write(sink, data) :]
        except BrokenPipeError:
            break
    os.close(sink)


def relay(source: int, port: socket.socket) -> None:
    while data := os.read(source, 65536):
        port.sendall(data)


def monitor(sock: socket.socket, state: str) -> None:
    def send(value: object) -> None:
        sock.sendall(json.dumps(value).encode() + b"\r\n")

    send({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}})
    for line in sock.makefile("rb"):
        order = json.loads(line)
        answer: object = {}
        event = ""
        match order["execute"]:
            case "query-status":
                answer = {"status": state, "running": state == "running"}
            case "query-blockstats":
                answer = [{"stats": {"rd_bytes": 4096, "wr_bytes": 0}}]
            case "stop":
                state, event = "paused", "STOP"
            case "cont":
                state, event = "running", "RESUME"
        if event:
            send({"event": event, "timestamp": {"seconds": 0, "microseconds": 0}})
        send({"return": answer, "id": order["id"]} if "id" in order else {"return": answer})
        if order["execute"] == "quit":
            os._exit(0)


def main(line: list[str]) -> int:
    if "--version" in line:
        print("QEMU emulator version 7.2.22 (fake)")
        return 0
    text = " ".join(line)
    socks = {
        name: socket.socket(fileno=int(fd))
        for name, fd in re.findall(r"socket,id=(\w+),fd=(\d+)", text)
    }
    blob = Path(line[line.index("-initrd") + 1]).read_bytes()
    pairs = [entry.partition(b"=")[::2] for entry in blob.split(b"\0")[:-1]]
    env = dict(value.partition(b"=")[::2] for key, value in pairs if key == b"env")
    mode = env.get(b"FAKE", b"").decode()
    state = "internal-error" if mode == "broken" else "running"
    threading.Thread(target=monitor, args=(socks["qmp"], state), daemon=True).start()
    control = Control(socks["port2"])
    if mode == "orders":
        control.log = socks["serial"]
    socks["serial"].sendall(b"guest: booting\n")
    threading.Thread(target=control.listen, daemon=True).start()
    if mode == "crash":
        print("qemu: cannot do that", file=sys.stderr)
        return 1
    if mode == "late":
        time.sleep(60)
    if mode.startswith("failed"):
        control.tell(mode)
        return 1
    control.tell("ready")
    if mode == "broken":
        time.sleep(60)
    if mode == "silent":
        return 3
    status = play(control, socks, [v for k, v in pairs if k == b"arg"], env)
    if status is None:
        return 0
    if mode == "talk":
        control.tell("message something happened")
        control.tell('trace open("/x") = 3')
    control.tell(f"exit {status}" if status >= 0 else f"killed {-status}")
    if mode == "linger":
        time.sleep(60)
    return 1


def play(
    control: Control, socks: dict[str, socket.socket], args: list[bytes], env: dict[bytes, bytes]
) -> int | None:
    """The program's status, as `Popen.returncode` has it."""
    child = subprocess.Popen(
        args,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pipesize=4096,
    )
    assert child.stdin and child.stdout and child.stderr
    control.child = child
    stdin = os.dup(child.stdin.fileno())
    child.stdin.close()
    threading.Thread(target=feed, args=(socks["port0"], control, stdin), daemon=True).start()
    outputs = [
        threading.Thread(target=relay, args=(child.stdout.fileno(), socks["port0"])),
        threading.Thread(target=relay, args=(child.stderr.fileno(), socks["port1"])),
    ]
    for thread in outputs:
        thread.start()
    status = child.wait()
    for thread in outputs:
        thread.join()
    return status


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
