# SPDX-License-Identifier: BSD-2-Clause
"""Runs the cases against a guest on a tap, and against Linux on a veth for comparison.

usage: python -m tests.net.conformance [--long] [--only TEXT] [--no-fuzz] SERVER

Runs in a network namespace with the tap `t0` (for the guest) and, if there, `o0`, the end of a
veth whose other end has the addresses 10.66.0.2/24 and fd66::2/64 and where SERVER runs on Linux.
Exit status 1: the guest failed a case.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether

from tests.net.conformance import (  # noqa: F401  (they register their cases)
    cases_close,
    cases_data,
    cases_icmp,
    cases_ip,
    cases_open,
    cases_reset,
)
from tests.net.conformance.peer import CASES, Case, Lab
from tests.net.conformance.wire import FENCE, OUR_MAC, US4, Failure, Wire

START = 60.0


@contextmanager
def guest(server: Path, options: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The server in a guest on t0; ended by the puppet's `quit`, else killed."""
    line = ["capstan", "run", "--net=tap=t0", "--ip=10.66.0.2/24", "--ip=fd66::2/64", "--ip=auto",
            "--gateway=10.66.0.1", "--gateway=fd66::1", "--memory=256M", *options, str(server)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            if child.stdout.readline() != "listening\n":
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
        lab.wire.flooding = False
        lab.wire.forget()
        one.run(lab)
    except Failure as err:
        return str(err)
    except Exception:  # noqa: BLE001  (a case that breaks is a failure with its place)
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
            total += 1
            name = one.name + (" (IPv6)" if v6 and len(one.families) > 1 else "")
            start = time.monotonic()
            results = [run_one(lab, one, v6) for lab in labs]
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
    return failed


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--no-fuzz", action="store_true")
    parser.add_argument("--no-guest", action="store_true")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("server", type=Path)
    args = parser.parse_args()
    labs: list[Lab] = []
    has_oracle = Path("/sys/class/net/o0").exists()
    if args.no_guest:
        oracle = Lab(Wire("o0"), "linux")
        meet(oracle.wire)
        return run_cases([oracle], args.only, args.long)
    with guest(args.server, args.option):
        labs.append(Lab(Wire("t0"), "guest"))
        if has_oracle:
            labs.append(Lab(Wire("o0"), "linux"))
        for lab in labs:
            meet(lab.wire)
        failed = run_cases(labs, args.only, args.long)
        labs[0].wire.inbox.clear()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
