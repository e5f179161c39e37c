# SPDX-License-Identifier: BSD-2-Clause
"""examples/kv, over epoll and in the guest, against real memcached."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.boot.kv_streams import DEADLINE, ask, connect, play, stream, without_numbers
from tests.boot.test_channel import compile_with_sdk
from tests.boot.test_libcapstan import pytestmark
from tests.lib.boot import ROOT

__all__ = ["pytestmark"]
SEEDS = range(int(os.environ.get("KV_SEEDS", "30")))
Where = tuple[str, int]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def running(*line: str | Path, env: dict[str, str] | None = None) -> Iterator[None]:
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, env=env) as child:
        try:
            yield
        finally:
            child.terminate()
            child.wait(60)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = sorted((ROOT / "examples" / "kv").glob("*.c"))
    return compile_with_sdk("gcc", tmp_path_factory.mktemp("kv") / "kv", *sources)


def wait_for(where: Where) -> None:
    """Until it answers: QEMU takes connections for a guest that does not listen yet."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            with connect(where) as s:
                if ask(s, b"") == b"":
                    return
        except OSError:
            pass
        assert time.monotonic() < end, f"no answer from {where}"
        time.sleep(0.1)


@contextmanager
def kv(program: Path, kind: str, *options: str) -> Iterator[Where]:
    """A server, where it listens for TCP and UDP. kind: linux, or options of the guest."""
    port = free_port()
    where = ("127.0.0.1", port)
    if kind == "linux":
        started = running(program, "-p", str(port), "-U", str(port), *options)
    else:
        publish = [f"-p127.0.0.1:{port}:11211", f"-p127.0.0.1:{port}:11211/udp"]
        line = [sys.executable, "-m", "capstan", "run", "-m256M", "--timeout=500", *publish]
        environ = {**os.environ, "CAPSTAN_ROOT": str(program.parent / "root")}
        guest = [*line, *kind.split(), str(program), "-U", "11211", *options]
        started = running(*guest, env=environ)
    with started:
        wait_for(where)
        yield where


KINDS = ["linux", "--cpus=1", "--cpus=2"]


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, program: Path) -> Iterator[Where]:
    with kv(program, request.param) as where:
        yield where


@pytest.fixture(scope="module")
def oracle() -> Iterator[Where]:
    if shutil.which("memcached") is None:
        pytest.skip("no memcached (apt-get install memcached)")
    port = str(free_port())
    user = ["-u", "root"] if os.geteuid() == 0 else []
    with running("memcached", "-p", port, "-U", port, "-l", "127.0.0.1", "-t", "1", *user):
        where = ("127.0.0.1", int(port))
        connect(where).close()
        yield where


def test_the_same_answers_as_memcached(server: Where, oracle: Where) -> None:
    for seed in SEEDS:
        st = stream(seed)
        ours, theirs = play(server, st), play(oracle, st)
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            what = st.commands[i][:200] if st.is_lockstep else b"pipelined"
            assert without_numbers(a) == without_numbers(b), f"seed {seed}, {i}: {what!r}"


FIXED = [
    b"set a 0 0 1\r\n1\r\ngets a\r\n",
    b"get " + b"x" * 250 + b"\r\n",
    b"set " + b"x" * 250 + b" 1 0 2\r\nok\r\nget " + b"x" * 250 + b"\r\n",
    b"set n 0 0 3\r\n 12\r\nincr n 1\r\nget n\r\n",
    b"set n 0 0 19\r\n9223372036854775806\r\nincr n 1\r\n",
    b"set n 5 0 2\r\n99\r\nincr n 1\r\ndecr n 1000\r\nappend n 9 0 1\r\nx\r\nget n\r\n",
    b"get " + b" ".join(b"k%d" % i for i in range(2000)) + b"\r\n",
    b"flush_all 0 noreply\r\nget a\r\ndelete a 0\r\ndelete a 5\r\nquit now\r\n"[:-10],
]


@pytest.mark.parametrize("data", FIXED, ids=range(len(FIXED)))
def test_fixed_cases(server: Where, oracle: Where, data: bytes) -> None:
    answers = []
    for where in (server, oracle):
        with connect(where) as s:
            ask(s, b"flush_all\r\n")
            answers.append(without_numbers(ask(s, data)))
    assert answers[0] == answers[1]


def test_numbers_wrap(server: Where) -> None:
    """As protocol.txt says; memcached looks for `-` behind the end of numbers above 2^63."""
    with connect(server) as s:
        assert ask(s, b"set n 0 0 20\r\n18446744073709551615\r\nincr n 1\r\n").endswith(
            b"\r\n0\r\n"
        )


@pytest.mark.parametrize("line", [b"quit\r\n", b"GET / HTTP/1.1\r\n", b"y" * 3000])
def test_ends_as_memcached_does(server: Where, oracle: Where, line: bytes) -> None:
    for where in (server, oracle):
        with connect(where) as s:
            s.sendall(line)
            assert s.recv(100) == b""


def test_unique_numbers(server: Where) -> None:
    with connect(server) as s:
        ask(s, b"set u 0 0 1\r\n1\r\n")
        number = ask(s, b"gets u\r\n").split()[4]
        assert ask(s, b"cas u 0 0 1 %s\r\n2\r\n" % number) == b"STORED\r\n"
        assert ask(s, b"cas u 0 0 1 %s\r\n3\r\n" % number) == b"EXISTS\r\n"
        assert ask(s, b"get u\r\n") == b"VALUE u 0 1\r\n2\r\nEND\r\n"


def test_time(server: Where, oracle: Where) -> None:
    for where in (server, oracle):
        with connect(where) as s:
            ask(s, b"flush_all\r\nset t 0 2 1\r\n1\r\nset u 0 0 1\r\n2\r\nset v 0 100 1\r\n3\r\n")
            ask(s, b"touch v 2\r\n")
            assert ask(s, b"get t u v\r\n").count(b"VALUE") == 3
            time.sleep(4)
            assert ask(s, b"get t u v\r\n") == b"VALUE u 0 1\r\n2\r\nEND\r\n"
            assert ask(s, b"flush_all 2\r\nget u\r\n").count(b"VALUE") == 1
            time.sleep(4)
            assert ask(s, b"get u\r\n") == b"END\r\n"


def packets(where: Where, data: bytes, wait: float = 2.0) -> list[bytes]:
    """The datagrams that answer one."""
    got = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(wait)
        s.sendto(data, where)
        try:
            while not got or len(got) < int.from_bytes(got[0][4:6], "big"):
                got.append(s.recv(65536))
        except TimeoutError:
            pass
    return got


def test_udp(server: Where, oracle: Where) -> None:
    value = bytes(range(97, 123)) * 200  # 5,200 bytes: several datagrams
    one, two = b"\x12\x34\0\0\0\1\0\0", b"\x12\x34\0\0\0\2\0\0"
    answers = []
    for where in (server, oracle):
        with connect(where) as s:
            ask(s, b"flush_all\r\nset big 7 0 %d\r\n%s\r\n" % (len(value), value))
        answers.append(
            [
                packets(where, one + b"set small 3 0 5\r\nhello\r\n"),
                packets(where, one + b"get small\r\n"),
                sorted(packets(where, one + b"get big\r\n")),
                packets(where, one + b"incr small 1\r\n"),
                packets(where, one + b"bad\r\n"),
                packets(where, one, 0.3),
                packets(where, b"abc", 0.3),
            ]
        )
    assert answers[0] == answers[1]
    # memcached 1.6 means to say so too, but does not send it.
    refused = b"SERVER_ERROR multi-packet request not supported\r\n"
    assert packets(server, two + b"get small\r\n") == [one + refused]
    assert answers[0][1] == [one + b"VALUE small 3 5\r\nhello\r\nEND\r\n"]


def stat(s: socket.socket, name: str) -> int:
    s.sendall(b"stats\r\n")
    got = bytearray()
    while not got.endswith(b"END\r\n"):
        got += s.recv(65536)
    facts = dict(line.split()[1:3] for line in bytes(got).splitlines() if line.startswith(b"STAT"))
    return int(facts[name.encode()])


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_bounded(program: Path, kind: str) -> None:
    """40 MiB of values of all sizes into 16: the newest are there, and old ones are not."""
    with kv(program, kind, "-m", "16") as where, connect(where) as s:
        stored = 0
        for i in range(1600):
            n = (100, 3000, 20_000, 80_000)[i % 4]
            stored += ask(s, b"set k%d 0 0 %d\r\n%s\r\n" % (i, n, b"v" * n)).count(b"STORED")
        assert stored == 1600
        assert stat(s, "evictions") > 500
        assert stat(s, "bytes") < 16 << 20
        assert ask(s, b"get k1599\r\n").startswith(b"VALUE k1599 0 80000\r\n")
        assert ask(s, b"get k1\r\n") == b"END\r\n"


def test_a_client_that_does_not_read(server: Where) -> None:
    """It gets all in the end; others are served meanwhile."""
    value = b"w" * 500_000
    with connect(server) as slow, connect(server) as other:
        ask(other, b"set w 0 0 %d\r\n%s\r\n" % (len(value), value))
        sender = threading.Thread(target=slow.sendall, args=(b"get w\r\n" * 60,))
        sender.start()
        time.sleep(0.5)
        for i in range(50):  # what is being sent must not change
            text = b"%06d" % i
            assert ask(other, b"set w 0 0 6\r\n%s\r\n" % text) == b"STORED\r\n"
            assert ask(other, b"get w\r\n").count(text) == 1
        got = bytearray()
        while got.count(b"END\r\n") < 60:
            got += slow.recv(1 << 20)
        sender.join(60)
        whole = b"VALUE w 0 500000\r\n" + value + b"\r\nEND\r\n"
        assert got.startswith(whole)
        assert (
            bytes(got).replace(whole, b"").replace(b"VALUE w 0 6\r\n000049\r\nEND\r\n", b"") == b""
        )


def test_bad_options(program: Path) -> None:
    for options in (["-p", "x"], ["-t", "0"], ["-p", "0"], ["more"]):
        done = subprocess.run([program, *options], capture_output=True, timeout=20, check=False)
        assert done.returncode == 2 and done.stderr.startswith(b"kv: ")
