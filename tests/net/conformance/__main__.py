# SPDX-License-Identifier: BSD-2-Clause
"""Runs the cases against a guest on a tap, and against Linux on a veth for comparison.

usage: python -m tests.net.conformance [--long] [--only TEXT] [--client NAMESPACE] SERVER

Runs in a network namespace with the tap `t0` (for the guest) and, if there, `o0`, the end of a
veth whose other end has the addresses 10.66.0.2/24 and fd66::2/64 and where SERVER runs on Linux.
With --client: `c0` here and the other end of it there, for the random frames and the bad line.
Exit status 1: the guest failed a case.
"""

from __future__ import annotations

import argparse
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from tests.net.conformance import (  # noqa: F401  (they register their cases)
    cases_close,
    cases_data,
    cases_icmp,
    cases_ip,
    cases_link,
    cases_open,
    cases_reset,
)
from tests.net.conformance.fuzz import fuzz
from tests.net.conformance.peer import CASES, Case, Lab
from tests.net.conformance.wire import CONTROL, FENCE, OUR_MAC, US4, Failure, Wire

START = 60.0
LONGEST = 5000  # a guest that nobody ends any more ends by itself


def first_line(child: subprocess.Popen[str]) -> str:
    """What it says first; "" when it says nothing in time."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], START)
    return child.stdout.readline() if ready else ""


@contextmanager
def guest(server: Path, options: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The server in a guest on t0; ended by the puppet's `quit`, else killed."""
    line = [
        "capstan",
        "run",
        "--net=tap=t0",
        "--ip=10.66.0.2/24",
        "--ip=fd66::2/64",
        "--ip=auto",
        "--gateway=10.66.0.1",
        "--gateway=fd66::1",
        "--memory=256M",
        f"--timeout={LONGEST}",
        *options,
        str(server),
    ]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        try:
            if first_line(child) != "listening\n":
                raise Failure("the guest's program did not start")
            yield child
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(30)
                except subprocess.TimeoutExpired:
                    child.kill()


def meet(wire: Wire) -> None:
    """Learns the stack's link address, and lets it learn ours."""
    end = time.monotonic() + START
    ask = Ether(src=OUR_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=1, hwsrc=OUR_MAC, psrc=FENCE, pdst=US4
    )
    while time.monotonic() < end:
        wire.send(ask)
        got = wire.take(lambda p: ARP in p and p[ARP].op == 2 and p[ARP].psrc == US4, 0.5)
        if got is not None:
            wire.us_mac = got.packet[ARP].hwsrc
            break
    wire.send(IP(src=FENCE, dst=US4) / ICMP(type=8, id=1))
    wire.take(lambda p: ICMP in p, 5)


def run_one(lab: Lab, one: Case, v6: bool) -> str:
    """What went wrong, "" for nothing."""
    lab.v6 = v6
    try:
        lab.wire.silent.clear()
        lab.wire.forget()
        one.run(lab)
    except Failure as err:
        return str(err)
    except Exception:
        return traceback.format_exc(limit=-3)
    return ""


def run_cases(labs: list[Lab], only: str, is_long: bool) -> int:
    """How many cases the first lab failed; prints a table."""
    failed = 0
    total = 0
    for one in CASES:
        if only not in one.name or (one.slow and not is_long):
            continue
        for v6 in one.families:
            if v6 and one.slow6 and not is_long:
                continue
            total += 1
            name = one.name + (" (IPv6)" if v6 and len(one.families) > 1 else "")
            start = time.monotonic()
            results = [run_one(lab, one, v6) for lab in labs]
            if lost := labs[0].wire.lost():
                print(f"    the tester had no room for {lost} frames", flush=True)
            words = "  ".join(
                f"{lab.name} {'FAILED' if r else 'ok'}"
                for lab, r in zip(labs, results, strict=True)
            )
            print(f"{name:52} {words:24} {time.monotonic() - start:5.1f} s  {one.rule}", flush=True)
            for lab, result in zip(labs, results, strict=True):
                if result:
                    why = f" ({one.linux})" if lab.name != "guest" and one.linux else ""
                    print(f"    {lab.name}: {result}{why}", flush=True)
            failed += bool(results[0])
    print(f"cases: {total - failed} of {total} right")
    return failed if total else 1


def ip(*words: str) -> None:
    """`ip` of iproute2."""
    subprocess.run(["ip", *words], check=True)


def in_client(namespace: str, *words: str) -> subprocess.Popen[str]:
    """A program beside the client's interface."""
    line = ["ip", "netns", "exec", namespace, sys.executable, "-m", *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)


def result_of(child: subprocess.Popen[str], seconds: float) -> str:
    """What the client found; "" and a complaint when it failed."""
    try:
        out, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        print(f"the client did not end in {seconds:.0f} s")
        return ""
    if child.returncode != 0:
        print(f"the client: {out.strip()}")
        return ""
    return out.strip()


def fuzz_phase(lab: Lab, namespace: str, is_long: bool) -> bool:
    """Random frames, and a client that must not notice."""
    seconds = 60.0 if is_long else 15.0
    seed = int(time.time())
    ip("link", "add", "br0", "type", "bridge")
    for interface in ("t0", "c0"):
        ip("link", "set", interface, "master", "br0")
    ip("link", "set", "br0", "up")
    try:
        fuzz(lab.wire, 2.0, seed - 1)  # what is made on first use
        lab.wire.forget()
        before = lab.do("memory")
        client = in_client(namespace, "tests.net.conformance.client", US4, str(seconds + 1))
        time.sleep(0.5)
        sent = fuzz(lab.wire, seconds, seed)
        found = result_of(client, seconds + 60)
        lab.wire.forget()
        if is_long:
            time.sleep(100)  # half-open connections, TIME_WAIT, fragments end by themselves
            lab.wire.forget()
        after = lab.do("memory")
    finally:
        for interface in ("t0", "c0"):
            ip("link", "set", interface, "nomaster")
        ip("link", "del", "br0")
    grown = before - after
    allowed = (4 if is_long else 24) << 10
    print(
        f"fuzz: seed {seed}, {sent.frames} frames in {sent.seconds:.0f} s, "
        f"client {found or 'FAILED'}, memory {grown:+d} KiB"
    )
    if grown > allowed:
        print(f"fuzz: memory has grown by more than {allowed} KiB")
    return bool(found) and grown <= allowed


def line_phase(namespace: str, is_long: bool) -> bool:
    """A transfer each way over a bad line."""
    line = ["5", "1", "20", "8"] if is_long else ["2", "1", "5", "2"]
    amount = (20 if is_long else 1) << 20
    forward = subprocess.Popen(
        [sys.executable, "-m", "tests.net.conformance.forward", "t0", "c0", *line],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if first_line(forward) != "ready\n":
            raise Failure("the bad line did not start")
        start = time.monotonic()
        client = in_client(namespace, "tests.net.conformance.client", US4, f"{amount}b", "60")
        found = result_of(client, 1500 if is_long else 120)
        seconds = time.monotonic() - start
    finally:
        forward.terminate()
        out, _ = forward.communicate(timeout=30)
    print(
        f"bad line ({line[0]} % loss, {line[1]} % twice, {line[2]} + {line[3]} ms): "
        f"{amount >> 20} MiB each way in {seconds:.0f} s, {found or 'FAILED'}; {out.strip()}"
    )
    return bool(found)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", default="", help="cases whose name has this in it, no fuzz")
    parser.add_argument("--client", default="", help="namespace of the client's interface")
    parser.add_argument("--option", action="append", default=[], help="of capstan run")
    parser.add_argument("server", type=Path)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the guest is ended too
    with guest(args.server, args.option) as child:
        labs = [Lab(Wire("t0"), "guest")]
        if Path("/sys/class/net/o0").exists():
            labs.append(Lab(Wire("o0"), "linux"))
        for lab in labs:
            meet(lab.wire)
        is_good = run_cases(labs, args.only, args.long) == 0
        labs[0].wire.forget()
        if args.client and not args.only:
            is_good &= fuzz_phase(labs[0], args.client, args.long)
            is_good &= line_phase(args.client, args.long)
        labs[0].wire.inbox.clear()
        labs[0].wire.send(IP(src=CONTROL, dst=US4) / UDP(sport=999, dport=9) / Raw(b"1 quit"))
        out, _ = child.communicate(timeout=START)
        if out != "bye\n" or child.returncode != 0:
            print(f"the guest ended with status {child.returncode}, said {out!r}")
            is_good = False
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
