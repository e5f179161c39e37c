#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Servers under load, in a guest and on the host: prints a table; one sitting, best of N.

usage: bench/net.py [--count N] [--json FILE] [--no-host] [--accel kvm|tcg] [--stats] [ROW...]

The guest has one vCPU and a tap device without vhost, in a network namespace made for the run;
QEMU with all its threads is bound to CPU 1, the load generator to CPU 0 (on the host: the server to
CPU 1). Needs root and the packages in PACKAGES. Without ROW: all rows of --list.

Rows: redis (SET and GET, 50 connections), redis-p16 (pipelined by 16), redis-one (one client,
p50), redis-user (over user-mode networking), memcached (depth 1 x 50), memcached-d16, kv-d16
(examples/kv), nginx (612 bytes, wrk -c 30 keep-alive), iperf-out, iperf-in (host: over a veth
pair), idle (QEMU's share of a CPU over 60 s, with one open connection).

--stats: what the guest counted (interrupts, device accesses, ...) per request of the last run of
each row, its start included. `cycles` are the TSC's from a frame's leaving the ring to the
guest's next rest, notifications of the host not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CAPSTAN = str(ROOT / ".venv" / "bin" / "capstan")
PACKAGES = ["redis-server", "redis-tools", "memcached", "nginx-light", "wrk", "iperf3", "iproute2"]
HOST_IP, GUEST_IP, VETH_IP = "192.168.77.1", "192.168.77.2", "192.168.78.2"
SERVER_CPU, CLIENT_CPU = "1", "0"
USER_PORT = 16379
START_S, LOAD_S = 60.0, 180.0

PROBE = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)
if sys.argv[3]:
    s.sendall(sys.argv[3].encode())
    s.settimeout(2)
    sys.exit(s.recv(1) == b"")
"""
IDLE_S = 60
WRK_S = 5
HOLD = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
s.sendall(b"PING\\r\\n")
good = s.recv(100).startswith(b"+PONG")
time.sleep(float(sys.argv[3]))
s.sendall(b"PING\\r\\n")
sys.exit(not (good and s.recv(100).startswith(b"+PONG")))
"""
NGINX_CONF = """daemon off; master_process off; user root; worker_processes 1;
error_log stderr crit; pid /tmp/nginx.pid;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
  uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
  server { listen 8080 reuseport; root /var/www/html; index index.nginx-debian.html; }
}
"""


class BenchError(Exception):
    """A row could not be measured; the text says why."""


@dataclass(frozen=True)
class Server:
    command: list[str]
    port: int
    files: dict[str, str] = field(default_factory=dict)
    """guest path: host path"""


@dataclass(frozen=True)
class Row:
    server: str
    load: Callable[[str, str, int], dict[str, float]]
    """(network, host, port) to named figures"""
    user_net: bool = False
    guest_only: bool = False
    lower_is_better: bool = False
    requests: int = 0
    """that a run makes; 0: not known"""


def on_cpu(cpu: str, command: list[str]) -> list[str]:
    return ["taskset", "-c", cpu, *command]


def in_netns(name: str, command: list[str]) -> list[str]:
    return ["ip", "netns", "exec", name, *command] if name else command


def load(network: str, command: list[str]) -> str:
    done = subprocess.run(
        in_netns(network, on_cpu(CLIENT_CPU, command)),
        capture_output=True,
        text=True,
        timeout=LOAD_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: status {done.returncode}: {done.stderr[-300:]}")
    return done.stdout


# --- loads -----------------------------------------------------------------------------------


def redis_benchmark(network: str, host: str, port: int, *options: str) -> list[list[str]]:
    out = load(
        network,
        ["redis-benchmark", "-h", host, "-p", str(port), "-t", "set,get", *options, "--csv"],
    )
    rows = [line.replace('"', "").split(",") for line in out.splitlines() if line.startswith('"')]
    return [row for row in rows if row[0] in ("SET", "GET")]


def redis_load(scale: int, *options: str) -> Callable[[str, str, int], dict[str, float]]:
    def run(network: str, host: str, port: int) -> dict[str, float]:
        rows = redis_benchmark(network, host, port, "-n", str(scale), *options)
        return {row[0]: float(row[1]) for row in rows}

    return run


def redis_latency(network: str, host: str, port: int) -> dict[str, float]:
    rows = redis_benchmark(network, host, port, "-n", "10000", "-c", "1")
    return {f"{row[0]} p50 ms": float(row[4]) for row in rows}


def memcached_load(depth: int, total: int) -> Callable[[str, str, int], dict[str, float]]:
    def run(network: str, host: str, port: int) -> dict[str, float]:
        figures = {}
        for verb in ("set", "get"):
            out = load(network, [str(MCLOAD), host, str(port), verb, "50", str(depth), str(total)])
            found = re.search(r"([0-9]+) ops/s", out)
            if not found:
                raise BenchError(f"mcload printed no figure: {out}")
            figures[verb] = float(found[1])
        return figures

    return run


def idle_load(network: str, host: str, port: int) -> dict[str, float]:
    pids = [int(p.name) for p in Path("/proc").glob("[0-9]*") if is_qemu_in(network, p)]
    if len(pids) != 1:
        raise BenchError(f"{len(pids)} QEMU processes in the namespace, not 1")
    hold = [sys.executable, "-c", HOLD, host, str(port), str(IDLE_S)]
    with subprocess.Popen(in_netns(network, hold)) as connection:
        time.sleep(2)
        before, start = cpu_seconds(pids[0]), time.monotonic()
        if connection.wait(IDLE_S + 20) != 0:
            raise BenchError("the open connection did not last")
        used, passed = cpu_seconds(pids[0]) - before, time.monotonic() - start
    return {"CPU %": 100 * used / passed}


def is_qemu_in(network: str, process: Path) -> bool:
    try:
        where = (process / "ns" / "net").stat().st_ino
        name = (process / "comm").read_text()
    except OSError:
        return False
    return name.startswith("qemu-") and where == Path("/run/netns", network).stat().st_ino


def cpu_seconds(pid: int) -> float:
    """man 5 proc: fields 14 and 15, in ticks."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def wrk_load(network: str, host: str, port: int) -> dict[str, float]:
    out = load(network, ["wrk", "-t", "1", "-c", "30", "-d", f"{WRK_S}s", f"http://{host}:{port}/"])
    found = re.search(r"Requests/sec:\s*([0-9.]+)", out)
    if not found or "Non-2xx" in out or "Socket errors" in out:
        raise BenchError(f"wrk: {out}")
    return {"requests/s": float(found[1])}


def iperf_load(*options: str) -> Callable[[str, str, int], dict[str, float]]:
    def run(network: str, host: str, port: int) -> dict[str, float]:
        out = load(network, ["iperf3", "-c", host, "-p", str(port), "-t", "5", "-J", *options])
        return {"Mbit/s": json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e6}

    return run


REDIS = [
    "/usr/bin/redis-server",
    "--port",
    "6379",
    "--bind",
    "0.0.0.0",
    "--protected-mode",
    "no",
    "--save",
    "",
    "--appendonly",
    "no",
]
MCLOAD = ROOT / "build" / "mcload"
KV = ROOT / "build" / "kv"


def servers(scratch: Path) -> dict[str, Server]:
    conf = scratch / "nginx.conf"
    conf.write_text(NGINX_CONF)
    page = scratch / "index.html"
    page.write_bytes(b"x" * 612)
    return {
        "redis": Server(REDIS, 6379),
        "memcached": Server(
            ["/usr/bin/memcached", "-u", "root", "-m", "64", "-t", "1", "-p", "11211", "-U", "0"],
            11211,
        ),
        "kv": Server([str(KV), "-p", "11211"], 11211),
        "nginx": Server(
            ["/usr/sbin/nginx", "-c", str(conf)],
            8080,
            {str(conf): str(conf), "/var/www/html/index.nginx-debian.html": str(page)},
        ),
        "iperf": Server(["/usr/bin/iperf3", "-s", "-p", "5201"], 5201),
    }


ROWS = {
    "redis": Row("redis", redis_load(50000, "-c", "50"), requests=100000),
    "redis-p16": Row("redis", redis_load(400000, "-c", "50", "-P", "16"), requests=800000),
    "redis-one": Row("redis", redis_latency, lower_is_better=True, requests=20000),
    "redis-user": Row("redis", redis_load(20000, "-c", "50"), user_net=True, requests=40000),
    "memcached": Row("memcached", memcached_load(1, 100000), requests=200000),
    "memcached-d16": Row("memcached", memcached_load(16, 800000), requests=1600000),
    "kv-d16": Row("kv", memcached_load(16, 800000), requests=1600000),
    "nginx": Row("nginx", wrk_load),
    "iperf-out": Row("iperf", iperf_load("-R")),
    "iperf-in": Row("iperf", iperf_load()),
    "idle": Row("redis", idle_load, lower_is_better=True, guest_only=True),
}


# --- where servers run --------------------------------------------------------------------------


def wait_for_port(
    network: str, host: str, port: int, server: subprocess.Popen[bytes], ask: str = ""
) -> None:
    end = time.monotonic() + START_S
    # QEMU's own network accepts before the guest does: only an answer says that it is there.
    probe = ["python3", "-c", PROBE, host, str(port), ask]
    while time.monotonic() < end:
        if server.poll() is not None:
            raise BenchError(f"the server ended with status {server.returncode}")
        done = subprocess.run(in_netns(network, probe), capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    raise BenchError(f"the server did not listen on port {port} within {START_S:.0f} s")


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            yield server
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    """A network namespace with tap0 for the guest and a veth pair to a second namespace."""
    name = f"capbench{os.getpid()}"
    peer = name + "p"
    ip("netns", "add", name)
    try:
        ip("netns", "add", peer)
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "tuntap", "add", "tap0", "mode", "tap")
        ip("-n", name, "addr", "add", f"{HOST_IP}/24", "dev", "tap0")
        ip("-n", name, "link", "set", "tap0", "up")
        ip(
            "-n",
            name,
            "link",
            "add",
            "veth0",
            "type",
            "veth",
            "peer",
            "name",
            "veth1",
            "netns",
            peer,
        )
        ip("-n", name, "addr", "add", "192.168.78.1/24", "dev", "veth0")
        ip("-n", name, "link", "set", "veth0", "up")
        ip("-n", peer, "addr", "add", f"{VETH_IP}/24", "dev", "veth1")
        ip("-n", peer, "link", "set", "veth1", "up")
        yield name
    finally:
        for one in (name, peer):
            subprocess.run(["ip", "netns", "del", one], capture_output=True, check=False)


class Bench:
    def __init__(self, scratch: Path, network: str, accel: str, extra: list[str]) -> None:
        self.scratch = scratch
        self.network = network
        self.accel = accel
        self.extra = extra
        self.servers = servers(scratch)
        self.counts: dict[str, float] = {}  # per request, of the last guest

    def image(self, name: str) -> str:
        server = self.servers[name]
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        text = "cmdline: " + json.dumps(server.command) + "\nmemory: 1G\n"
        if server.files:
            text += "files:\n" + "".join(f"  {a}: {b}\n" for a, b in server.files.items())
        (folder / "Capstanfile").write_text(text)
        subprocess.run(
            [CAPSTAN, "build", "-q", "-t", f"bench-{name}", str(folder)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return f"bench-{name}"

    def guest(self, name: str, row: Row) -> dict[str, float]:
        server = self.servers[name]
        net = (
            ["-p", f"127.0.0.1:{USER_PORT}:{server.port}"]
            if row.user_net
            else ["--net", "tap=tap0", "--ip", f"{GUEST_IP}/24", "--gateway", HOST_IP]
        )
        where = "" if row.user_net else self.network
        host, port = ("127.0.0.1", USER_PORT) if row.user_net else (GUEST_IP, server.port)
        command = in_netns(
            where,
            on_cpu(
                SERVER_CPU,
                [CAPSTAN, "run", "--accel", self.accel, *net, *self.extra, self.image(name)],
            ),
        )
        with running(command, self.scratch / f"{name}.guest.log") as machine:
            wait_for_port(where, host, port, machine, "PING\r\n" if row.user_net else "")
            figures = row.load(where, host, port)
        requests = row.requests or round(figures.get("requests/s", 0) * WRK_S)
        self.counts = per_request(self.scratch / f"{name}.guest.log", requests)
        cycles = self.counts.get("network cycles")
        return figures | ({"cycles": cycles} if cycles else {})

    def host(self, name: str, row: Row) -> dict[str, float]:
        server = self.servers[name]
        is_iperf = name == "iperf"
        where, host = (self.network + "p", VETH_IP) if is_iperf else ("", "127.0.0.1")
        command = in_netns(where, on_cpu(SERVER_CPU, server.command))
        client = self.network if is_iperf else ""
        with running(command, self.scratch / f"{name}.host.log") as process:
            wait_for_port(client, host, server.port, process)
            return row.load(client, host, server.port)

    def measure(self, row: Row, count: int, on_host: bool) -> dict[str, dict[str, float]]:
        """{"guest" or "host": best figures}; the two take turns."""
        best: dict[str, dict[str, float]] = {}
        places = [("guest", self.guest)]
        if on_host and not row.user_net and not row.guest_only:
            places.append(("host", self.host))
        for _ in range(1 if row.load is idle_load else count):
            for place, run in places:
                figures = run(row.server, row)
                have = best.setdefault(place, figures)
                for key, value in figures.items():
                    pick = min if row.lower_is_better or key == "cycles" else max
                    have[key] = pick(have[key], value)
        return best


def needs() -> None:
    if os.geteuid() != 0:
        raise BenchError("tap devices and namespaces need root")
    missing = [
        t
        for t in ("redis-server", "redis-benchmark", "memcached", "wrk", "iperf3", "ip")
        if not shutil.which(t)
    ]
    if missing or not Path("/usr/sbin/nginx").exists():
        raise BenchError(f"not installed: apt-get install {' '.join(PACKAGES)}")
    MCLOAD.parent.mkdir(exist_ok=True)
    subprocess.run(["gcc", "-O2", "-o", str(MCLOAD), str(ROOT / "bench" / "mcload.c")], check=True)
    sdk = subprocess.run([CAPSTAN, "sdk"], capture_output=True, text=True, check=True).stdout
    sources = sorted((ROOT / "examples" / "kv").glob("*.c"))
    subprocess.run(["gcc", "-O2", "-pthread", "-o", KV, *sources, *shlex.split(sdk)], check=True)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", USER_PORT))


def per_request(log: Path, requests: int) -> dict[str, float]:
    """The guest's counters, from the line `capstan run --stats` ends with."""
    found = re.findall(r"capstan: stats: (.*)", log.read_text(errors="replace"))
    if not found or not requests:
        return {}
    counts = re.findall(r"([A-Za-z ]+) ([0-9]+)", found[-1])
    return {what.strip(): int(n) / requests for what, n in counts if int(n)}


def show(name: str, best: dict[str, dict[str, float]]) -> None:
    for key in best["guest"]:
        guest, host = best["guest"][key], best.get("host", {}).get(key)
        ratio = f"{host:12,.2f} {guest / host:8.2f}" if host else ""
        print(f"{name:14} {key:12} {guest:12,.2f} {ratio}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--accel", default="kvm", choices=["kvm", "tcg"])
    parser.add_argument("--no-host", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--run-option", action="append", default=[], metavar="OPTION")
    parser.add_argument("--stats", action="append_const", dest="run_option", const="--stats")
    args = parser.parse_args()
    names = args.rows or list(ROWS)
    if args.list or any(n not in ROWS for n in names):
        print("rows:", " ".join(ROWS))
        return 0 if args.list else 2
    results = {}
    try:
        needs()
        with tempfile.TemporaryDirectory() as scratch, namespace() as network:
            bench = Bench(Path(scratch), network, args.accel, args.run_option)
            print(f"{'row':14} {'figure':12} {'guest':>12} {'host':>12} {'ratio':>8}", flush=True)
            for name in names:
                try:
                    results[name] = bench.measure(ROWS[name], args.count, not args.no_host)
                except (BenchError, subprocess.TimeoutExpired):
                    log = Path(scratch) / f"{ROWS[name].server}.guest.log"
                    if log.exists():
                        sys.stderr.write(log.read_text(errors="replace")[-2000:])
                    raise
                show(name, results[name])
                if "--stats" in args.run_option:
                    counts = ", ".join(f"{k} {v:.3f}" for k, v in bench.counts.items())
                    print(f"  per request: {counts}")
    except (BenchError, OSError, subprocess.TimeoutExpired) as error:
        print(f"bench/net.py: {error}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
