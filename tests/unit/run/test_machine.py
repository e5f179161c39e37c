# SPDX-License-Identifier: BSD-2-Clause
"""The launcher as a process, with a host program behind a fake QEMU."""

from __future__ import annotations

import hashlib
import os
import pty
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.lib.boot import alive, children, launcher, state, wait_for

PIPE = subprocess.PIPE
DEADLINE = 20

# Not for ever: when the fake QEMU is killed, its child is nobody's.
LOOP = "n=0; while [ $n -lt 400 ]; do n=$((n + 1)); sleep 0.05; done"


def run(folder: Path, *argv: str, stdin: bytes = b"", **options: str) -> tuple[int, bytes, bytes]:
    line = launcher(folder, *argv, **options)
    done = subprocess.run(line, input=stdin, capture_output=True, timeout=DEADLINE, check=False)
    return done.returncode, done.stdout, done.stderr


def start(folder: Path, *argv: str, **options: str) -> subprocess.Popen[bytes]:
    line = launcher(folder, *argv, **options)
    return subprocess.Popen(line, stdin=PIPE, stdout=PIPE, stderr=PIPE)


def started(process: subprocess.Popen[bytes]) -> bytes:
    """The first line of the program, so that it surely runs."""
    assert process.stdout is not None
    return process.stdout.readline()


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, out, err


def test_streams_and_status(tmp_path: Path) -> None:
    script = "printf out; printf err >&2; exit 7"
    assert run(tmp_path, "sh", "-c", script) == (7, b"out", b"err")


def test_missing_firmware_is_told(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text("#!/bin/sh\necho \"qemu: could not load PC BIOS 'qboot.rom'\" >&2\nexit 1\n")
    qemu.chmod(0o755)
    status, _, err = run(tmp_path, "x")
    assert status == 125 and b"QEMU does not find qboot.rom" in err


def test_bytes_pass_unaltered(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    status, out, err = run(tmp_path, "cat", stdin=data)
    assert (status, err) == (0, b"")
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_stderr_bulk(tmp_path: Path) -> None:
    status, out, err = run(tmp_path, "sh", "-c", "cat >&2", stdin=b"\0\xff\n" * 100_000)
    assert (status, out, err) == (0, b"", b"\0\xff\n" * 100_000)


def test_died_of_signal(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", "kill -11 $$")[0] == 128 + 11


@pytest.mark.parametrize("status", [125, 126, 127])
def test_failed(tmp_path: Path, status: int) -> None:
    got = run(tmp_path, "x", fake=f"failed {status} x: no good")
    assert got == (status, b"", b"capstan: x: no good\n")


def test_messages_and_trace(tmp_path: Path) -> None:
    err = run(tmp_path, "true", fake="talk")[2]
    assert err == b'capstan: something happened\nopen("/x") = 3\n'


def test_ends_without_a_word(tmp_path: Path) -> None:
    status, _, err = run(tmp_path, "true", fake="silent")
    assert status == 125
    assert b"without a word (a panic)" in err and b"console: guest: booting" in err


def test_qemu_refuses(tmp_path: Path) -> None:
    status, _, err = run(tmp_path, "true", fake="crash")
    assert status == 125
    assert b"QEMU: qemu: cannot do that" in err


def test_internal_error_is_reported(tmp_path: Path) -> None:
    begin = time.monotonic()
    status, _, err = run(tmp_path, "true", fake="broken")
    assert status == 125
    assert b"broke down (internal-error)" in err and b"console: guest: booting" in err
    assert time.monotonic() - begin < 5


def test_qemu_that_does_not_end(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", "exit 3", fake="linger", quit_deadline="0.2")[0] == 3


def test_timeout(tmp_path: Path) -> None:
    status, _, err = run(tmp_path, "sleep", "60", timeout="0.6")
    assert status == 124
    assert err == b"capstan: the program ran longer than 0.6 seconds\n"


def test_timeout_of_a_deaf_program(tmp_path: Path) -> None:
    script = f"trap '' TERM; {LOOP}"
    assert run(tmp_path, "sh", "-c", script, timeout="0.4", grace="0.3")[0] == 124


def test_sigterm_is_an_orderly_stop(tmp_path: Path) -> None:
    script = f"trap 'echo bye; exit 5' TERM; echo go; {LOOP}"
    process = start(tmp_path, "sh", "-c", script)
    started(process)
    process.terminate()
    assert finish(process) == (5, b"bye\n", b"")


def test_sigterm_grace_period(tmp_path: Path) -> None:
    script = f"trap '' TERM; echo go; {LOOP}"
    process = start(tmp_path, "sh", "-c", script, grace="0.3")
    started(process)
    process.terminate()
    assert finish(process)[0] == 128 + 9


def test_sigint_reaches_the_program(tmp_path: Path) -> None:
    script = f"trap 'echo int; exit 9' INT; echo go; {LOOP}"
    process = start(tmp_path, "sh", "-c", script)
    started(process)
    process.send_signal(signal.SIGINT)
    assert finish(process)[:2] == (9, b"int\n")


def test_third_sigint_pulls_the_plug(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", "trap '' INT; echo go; exec sleep 60")
    started(process)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert finish(process)[0] == 128 + 2


def test_sigint_before_the_program_runs(tmp_path: Path) -> None:
    process = start(tmp_path, "true", fake="late")
    assert wait_for(lambda: children(process.pid))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130


def test_reader_that_goes_away(tmp_path: Path) -> None:
    process = start(tmp_path, "yes")
    assert process.stdout and process.stderr
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.wait(DEADLINE) == 141
    assert process.stderr.read() == b""


def test_slow_reader_is_waited_for(tmp_path: Path) -> None:
    process = start(tmp_path, "head", "-c", "2000000", "/dev/zero")
    time.sleep(0.7)
    status, out, _ = finish(process)
    assert (status, len(out)) == (0, 2_000_000)


def test_output_to_a_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with target.open("wb") as out:
        subprocess.run(launcher(tmp_path, "echo", "x"), stdout=out, timeout=DEADLINE, check=True)
    assert target.read_bytes() == b"x\n"


def test_full_disk_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as out:
        line = launcher(tmp_path, "echo", "x")
        done = subprocess.run(line, stdout=out, stderr=PIPE, timeout=DEADLINE, check=False)
    assert done.returncode == 125
    assert b"cannot write to stdout: No space left" in done.stderr


def test_closed_descriptors(tmp_path: Path) -> None:
    line = launcher(tmp_path, "sh", "-c", "cat; exit 4")
    shell = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *line]
    assert subprocess.run(shell, timeout=DEADLINE, check=False).returncode == 4


def test_stdin_end_is_announced(tmp_path: Path) -> None:
    err = run(tmp_path, "cat", stdin=b"hello", fake="orders", verbose="1")[2]
    assert b"order eof 5" in err


def test_killed_launcher_takes_qemu_along(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", "echo go; exec sleep 60")
    started(process)
    (qemu,) = children(process.pid)
    process.kill()
    process.wait()
    assert wait_for(lambda: not alive(qemu), 1.0)


def test_stop_and_continue(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", "echo go; read x; echo $x")
    started(process)
    (qemu,) = children(process.pid)
    process.send_signal(signal.SIGTSTP)
    for pid in (process.pid, qemu):
        assert wait_for(lambda pid=pid: state(pid) == "T")
    process.send_signal(signal.SIGCONT)
    assert process.stdin
    process.stdin.write(b"back\n")
    assert finish(process)[:2] == (0, b"back\n")


class Tty:
    """A launcher on a terminal of its own."""

    def __init__(self, line: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(line[0], line)
        self.seen = b""

    def expect(self, text: bytes, seconds: float = DEADLINE) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 4096)

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.fd)[3] & termios.ICANON


def test_terminal_is_raw_and_given_back(tmp_path: Path) -> None:
    tty = Tty(launcher(tmp_path, "sh", "-c", "echo go; head -c 1 | od -An -c; exit 6"))
    before = termios.tcgetattr(tty.fd)
    tty.expect(b"go\n")
    assert b"\r" not in tty.seen  # output processing is the guest's
    assert tty.is_raw()
    os.write(tty.fd, b"\x03")
    tty.expect(b"003")
    assert tty.status() == 6
    assert termios.tcgetattr(tty.fd) == before


def test_terminal_is_given_back_after_a_signal(tmp_path: Path) -> None:
    tty = Tty(launcher(tmp_path, "sh", "-c", "echo go; exec sleep 60"))
    tty.expect(b"go\n")
    assert tty.is_raw()
    os.kill(tty.pid, signal.SIGTERM)
    assert tty.status() == 143
    assert not tty.is_raw()


def test_window_size_changes(tmp_path: Path) -> None:
    tty = Tty(launcher(tmp_path, "sh", "-c", "echo go; exec cat", fake="orders", verbose="1"))
    tty.expect(b"go\n")
    termios.tcsetwinsize(tty.fd, (33, 99))
    tty.expect(b"order winsize 33 99")
    os.kill(tty.pid, signal.SIGTERM)
    assert tty.status() == 143


def test_pipeline_keeps_the_terminal_cooked(tmp_path: Path) -> None:
    line = launcher(tmp_path, "sh", "-c", "echo go; exec sleep 60")
    tty = Tty(["/bin/sh", "-c", '"$@" | cat', "sh", *line])
    tty.expect(b"go\r\n")
    assert not tty.is_raw()
    os.write(tty.fd, b"\x03")
    tty.status()
