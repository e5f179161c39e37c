# SPDX-License-Identifier: BSD-2-Clause
"""The parts of the gate 04-3-instances: each yields lines with figures, or raises `Broken`."""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lib.instances import (
    Done,
    Host,
    answer,
    expect,
    free_ports,
    kill,
    numbers,
    pss,
    until,
)

MANY = 50
MEMORY_EACH = 60 << 20
MEMORY_SPARE = 1 << 30
CLI_POINTS = {
    "run -d": (
        "create: scratch",
        "create: filled",
        "create: named",
        "create: there",
        "start: marked",
        "start: spawned",
        "start: told",
    ),
    "stop": ("stop: asked",),
    "restart": ("restart: asked",),
    "kill": ("kill: asked",),
    "rm": ("rm: locked", "rm: moved", "rm: unnamed", "rm: gone"),
    "rm -f": ("kill: asked", "rm: locked", "rm: moved", "rm: unnamed", "rm: gone"),
}
SUPERVISOR_POINTS = (
    "supervisor: forked",
    "supervisor: launched",
    "supervisor: ready",
    "supervisor: ended",
    "supervisor: recorded",
)


# --- many ------------------------------------------------------------------------------------


def many(host: Host, *, long: bool, count: int) -> Iterator[str]:
    """Many at once."""
    wanted = count or (2 * MANY if long else MANY)
    number = min(wanted, max(1, (available() - MEMORY_SPARE) // MEMORY_EACH))
    if number < wanted:
        yield f"only {number} of {wanted}: {available() >> 20} MB of memory are available"
    ports = free_ports(number)
    names = [f"many-{index}" for index in range(number)]
    begin = time.monotonic()
    with ThreadPoolExecutor(number) as pool:
        done = list(pool.map(lambda pair: serve(host, *pair), zip(names, ports, strict=True)))
    took = time.monotonic() - begin
    bad = [result.err for result in done if result.status]
    expect(not bad, f"{len(bad)} of {number} did not start: {bad[:1]}")
    yield f"{number} instances started at once run after {took:.1f} s"
    yield from look_at_all(host, names, ports)
    begin = time.monotonic()
    host.run("stop", "-t", "20", *names)
    rows = host.rows()
    wrong = [name for name in names if rows[name]["status"].split(" (")[0] != "Exited"]
    expect(not wrong, f"still there after stop: {wrong}")
    host.run("rm", *names)
    expect(not host.rows(), "rm left instances")
    yield f"all stopped and removed in {time.monotonic() - begin:.1f} s"


def serve(host: Host, name: str, port: int, *more: str) -> Done:
    """Start a server that answers with its name."""
    line = ["run", "-d", "--name", name, "-m", "64M", "-p", f"127.0.0.1:{port}:80", *more]
    return host.call(*line, "instance", "serve", name, "80")


def launch(host: Host, name: str, port: int, *more: str) -> None:
    """Start a server, which must work."""
    done = serve(host, name, port, *more)
    expect(done.status == 0, f"{name} does not start: {done.status} {done.err}")


def available() -> int:
    """Bytes of memory the host can give."""
    found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    assert found
    return int(found[1]) << 10


def look_at_all(host: Host, names: list[str], ports: list[int]) -> Iterator[str]:
    """Each answers on its port, and has processes and a socket of its own; their memory."""
    begin = time.monotonic()
    rows = json.loads(host.run("ps", "--format", "json"))
    took = time.monotonic() - begin
    running = {row["name"] for row in rows if row["state"] == "running"}
    expect(running == set(names), f"ps shows {len(running)} of {len(names)} running")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda port: answer(port, 60), ports))
    expect(answers == names, f"wrong answers: {[a for a in answers if a not in names][:3]}")
    found = json.loads(host.run("inspect", "--type", "instance", *names))
    found = found if isinstance(found, list) else [found]
    qemus = {entry["state"]["qemu_pid"] for entry in found}
    owners = {entry["state"]["pid"] for entry in found}
    sockets = {Path(entry["directory"], "control") for entry in found}
    expect(all(path.is_socket() for path in sockets), "a control socket is missing")
    expect(len(qemus) == len(owners) == len(sockets) == len(names), "shared processes or sockets")
    floor, whole = sum(map(pss, qemus)) / len(names), sum(map(pss, owners)) / len(names)
    expect(floor + whole <= MEMORY_EACH, f"{(floor + whole) / 2**20:.1f} MiB each")
    yield (
        f"each answers on its port; PSS each {(floor + whole) / 2**20:.1f} MiB (QEMU "
        f"{floor / 2**20:.1f}, supervisor {whole / 2**20:.1f}); ps took {took:.2f} s"
    )


# --- kills -----------------------------------------------------------------------------------


def kills(host: Host, *, long: bool, count: int) -> Iterator[str]:
    """`kill -9` of everything."""
    times = 5 if long else 1
    told = 0
    for _ in range(times):
        for state in ("running", "paused", "restarting", "stopping"):
            told += kill_owner(host, state)
        told += kill_qemu(host)
        told += kill_foreground(host)
    yield f"QEMU, supervisor (4 states) and foreground run killed {times} times, {told} lines"


def points(host: Host, *, long: bool, count: int) -> Iterator[str]:
    """`kill -9` of commands and supervisors at each named point."""
    times = 5 if long else 1
    quick = {"create: filled", "create: named", "start: marked", "start: spawned", "rm: moved"}
    ran = told = 0
    for command, named in CLI_POINTS.items():
        for point in named:
            if long or point in quick or "asked" in point:
                for _ in range(times):
                    told += kill_command(host, command, point)
                    ran += 1
    yield f"command line killed at its points {ran} times, {told} lines"
    ran = told = 0
    for point in SUPERVISOR_POINTS:
        for _ in range(times):
            told += kill_supervisor_at(host, point)
            ran += 1
    launch(host, "victim", free_ports(1)[0])
    yield f"supervisor killed at its points {ran} times, {told} lines"


def one_line(host: Host, about: str, *, least: int = 1) -> tuple[int, dict[str, Any]]:
    """The next `ps` exits with 0 and explains in one line; the one after has nothing to say.

    How many lines there were, and the rows by name.
    """
    done = host.call("ps", "-a", "--format", "json")
    lines = done.err.splitlines()
    expect(done.status == 0, f"{about}: ps ends with {done.status}: {done.err}")
    expect(least <= len(lines) <= 1, f"{about}: {len(lines)} lines: {done.err!r}")
    again = host.call("ps", "-a")
    expect((again.status, again.err) == (0, ""), f"{about}: ps repeats itself: {again.err!r}")
    return len(lines), {row["name"]: row for row in json.loads(done.out)}


def works_again(host: Host, name: str, about: str) -> None:
    """Whatever is left of it can be removed; the next check uses its name again."""
    host.call("rm", "-f", name)
    places = host.folder / "root" / "instances"
    left = [p.name for p in places.iterdir() if p.is_dir() and p.name not in ("names", "notes")]
    expect(not left and not list((places / "names").iterdir()), f"{about}: left {left}")


def kill_owner(host: Host, state: str) -> int:
    """The supervisor, while its instance is in a state."""
    about = f"supervisor killed while {state}"
    name, port = "victim", free_ports(1)[0]
    if state == "restarting":
        line = ["run", "-d", "--name", name, "--restart", "always", "instance", "count", "1", "0"]
        host.run(*line)
    elif state == "stopping":
        host.run("run", "-d", "--name", name, "-m", "64M", "instance", "deaf")
    else:
        launch(host, name, port)
    folder = host.folder_of(name)
    stopper = None
    if state == "paused":
        host.run("pause", name)
    if state == "stopping":
        line = host.line("stop", "-t", "60", name)
        stopper = subprocess.Popen(line, env=host.env, stdout=subprocess.DEVNULL)
    record = until(
        lambda: (r := host.record(folder))["state"] == state and r, f"{about}: state", 20
    )
    kill(record["pid"])
    until(lambda: not Path(f"/proc/{record['qemu']}").exists(), f"{about}: QEMU ends", 5)
    if stopper is not None:
        expect(stopper.wait(10) is not None, "stop goes on")
    told, rows = one_line(host, about)
    row = rows[name]
    expect(row["state"] == "dead" and "was killed" in row["reason"], f"{about}: {row}")
    host.run("start", name)
    works_again(host, name, about)
    return told


def kill_qemu(host: Host) -> int:
    """QEMU: the supervisor records it."""
    name, port = "victim", free_ports(1)[0]
    launch(host, name, port)
    folder = host.folder_of(name)
    kill(host.record(folder)["qemu"])
    until(lambda: host.record(folder)["state"] == "exited", "QEMU killed: exited", 10)
    told, rows = one_line(host, "QEMU killed")
    row = rows[name]
    expect(row["exit_code"] == 137 and "SIGKILL" in row["reason"], f"QEMU killed: {row}")
    works_again(host, name, "QEMU killed")
    return told


def kill_foreground(host: Host) -> int:
    """A `capstan run` that others see."""
    line = host.line("run", "--name", "victim", "instance", "deaf")
    with subprocess.Popen(line, env=host.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        expect(host.rows()["victim"]["foreground"], "a foreground run is listed")
        qemu = host.inspect("victim")["state"]["qemu_pid"]
        process.kill()
    until(lambda: not Path(f"/proc/{qemu}").exists(), "foreground killed: QEMU ends", 5)
    told, _ = one_line(host, "foreground killed")
    works_again(host, "victim", "foreground killed")
    return told


def kill_command(host: Host, command: str, point: str) -> int:
    """The command line at a named point."""
    about = f"{command} killed at {point!r}"
    name, port = "victim", free_ports(1)[0]
    if command == "run -d":
        publish = f"127.0.0.1:{port}:80"
        args = ["run", "-d", "--name", name, "-p", publish, "instance", "serve", name, "80"]
    else:
        launch(host, name, port)
        if command == "rm":
            host.run("stop", name)
        args = [*command.split(), name]
    done = host.call(*args, killed_at=[point])
    expect(done.status == -signal.SIGKILL, f"{about}: it was not: {done.status} {done.err}")
    settled = ("running", "exited", "created", "dead")
    told, rows = one_line(host, about, least=0)
    while any(row["state"] not in settled for row in rows.values()):  # stop, restart
        rows = host.rows()
    works_again(host, name, about)
    return told


def kill_supervisor_at(host: Host, point: str) -> int:
    """The supervisor at a named point."""
    about = f"supervisor killed at {point!r}"
    args = ["run", "-d", "--name", "victim", "instance", "count", "10", "3"]
    done = host.call(*args, killed_at=["--supervisor", point])
    early = point in ("supervisor: forked", "supervisor: launched", "supervisor: ready")
    expect((done.status != 0) == early, f"{about}: {done.status} {done.err}")
    folder = next(p for p in (host.folder / "root" / "instances").iterdir() if len(p.name) == 64)
    until(lambda: not Path(f"/proc/{host.record(folder)['pid'] or 'x'}").exists(), about)
    told, _ = one_line(host, about, least=0 if point.endswith("recorded") else 1)
    works_again(host, "victim", about)
    return told


# --- logs ------------------------------------------------------------------------------------


def logs(host: Host, *, long: bool, count: int) -> Iterator[str]:
    """Numbered lines: none lost, none doubled."""
    lines, runs = (200_000 if long else 20_000), 3
    line = ["run", "-d", "--name", "log", "--restart", f"on-failure:{runs - 1}"]
    line += ["--log-opt", "max-size=256K", "--log-opt", "max-file=10000"]
    host.run(*line, "instance", "count", str(lines), "1", "1000")
    # Two pipes: a line that is written in parts may be cut by one of the other stream.
    follower = subprocess.run(
        host.line("logs", "-f", "log"), env=host.env, capture_output=True, timeout=600, check=True
    )
    followed = [*numbers(follower.stdout.decode()), *numbers(follower.stderr.decode())]
    stored = host.call("logs", "log")
    whole = [*numbers(stored.out), *numbers(stored.err)]
    expected = sorted(list(range(1, lines + 1)) * runs)
    expect(sorted(whole) == expected, f"{len(whole)} lines instead of {len(expected)}")
    expect(sorted(followed) == expected, f"logs -f: {len(followed)} instead of {len(expected)}")
    pieces = len(list(host.folder_of("log").glob("log.*.json")))
    expect(pieces > runs, "no rotation")
    tail = host.call("logs", "--tail", "10", "log")
    expect(len((tail.out + tail.err).splitlines()) == 10, "--tail 10")
    yield f"{len(whole)} lines of {runs} runs in {pieces} files, the same with -f; --tail 10"
    yield from cut_log(host)
    yield from small_log(host)


def cut_log(host: Host) -> Iterator[str]:
    """The supervisor is killed while the program writes; then a second run."""
    line = ["run", "-d", "--name", "cut", "--log-opt", "max-file=10000"]
    host.run(*line, "instance", "count", "1000000", "0", "5000")
    folder = host.folder_of("cut")
    until(lambda: (folder / "log.000001.json").stat().st_size > 200_000, "output")
    kill(host.record(folder)["pid"])
    one_line(host, "killed while it writes")
    done = host.call("logs", "cut")
    # The last line of each stream may be cut in the middle.
    out, err = (numbers("".join(t.splitlines(keepends=True)[:-1])) for t in (done.out, done.err))
    expect(out == [n for n in range(1, out[-1] + 1) if n % 3], "a gap in stdout")
    expect(err == list(range(3, err[-1] + 1, 3)), "a gap in stderr")
    host.run("start", "cut")
    until(lambda: len(host.run("logs", "cut").splitlines()) > len(out) + 1000, "more output")
    host.run("stop", "cut")
    again = numbers(host.call("logs", "cut").out)
    expect(again[: len(out)] == out and 1 in again[len(out) : len(out) + 2], "no second run")
    yield f"supervisor killed after {len(out) + len(err)} lines: no gap, the next run follows"


def small_log(host: Host) -> Iterator[str]:
    """What rotation leaves is the end of each stream, without a gap; of one it may be nothing."""
    line = ["run", "-d", "--name", "small", "--log-opt", "max-size=16K", "--log-opt", "max-file=2"]
    host.run(*line, "instance", "count", "20000", "0")
    host.run("wait", "small")
    done = host.call("logs", "small")
    out, err = numbers(done.out), numbers(done.err)
    for name, found, rests in (("stdout", out, (1, 2)), ("stderr", err, (0,))):
        whole = [n for n in range(1, 20_001) if n % 3 in rests]
        expect(found == whole[len(whole) - len(found) :], f"not the end of {name}, or a gap")
    kept = len(out) + len(err)
    size = sum(path.stat().st_size for path in host.folder_of("small").glob("log.*.json"))
    expect(kept > 0 and 16384 <= size <= 2 * 16384 + 200, f"{kept} lines in {size} bytes")
    yield f"max-size=16K, max-file=2: the last {kept} lines in {size} bytes"


# --- restarts --------------------------------------------------------------------------------


def restarts(host: Host, *, long: bool, count: int) -> Iterator[str]:
    """The policies, as docs/instances.md has them."""
    cases = {"no": ("no", 1, 0), "failure": ("on-failure:3", 1, 3), "fine": ("on-failure", 0, 0)}
    for name, (policy, status, _) in cases.items():
        line = ["run", "-d", "--name", name, "--restart", policy]
        host.run(*line, "instance", "count", "1", str(status))
    host.run("run", "-d", "--name", "always", "--restart", "always", "instance", "count", "1", "0")
    for name, (policy, status, expected) in cases.items():
        expect(host.run("wait", name).strip() == str(status), f"{policy}: status")
        found = host.inspect(name)["state"]["restarts"]
        expect(found == expected, f"{policy}, status {status}: {found} restarts, not {expected}")
    yield "no: 0, on-failure:3 with status 1: 3, on-failure with status 0: 0 restarts"
    until(lambda: host.inspect("always")["state"]["restarts"] >= 5, "always: 5 restarts", 60)
    host.run("stop", "always")
    state = host.inspect("always")["state"]
    expect(state["status"] == "exited", f"stopped while it waits: {state}")
    pauses = pauses_of(host, "always")[:5]
    expect(all(a < b for a, b in itertools.pairwise(pauses)), f"pauses {pauses}")
    expect(pauses[4] >= 1.6, f"pauses {pauses}")
    yield "always: pauses " + ", ".join(f"{p:.2f}" for p in pauses) + " s; stop ends it"
    again = host.inspect("always")["state"]["restarts"]
    time.sleep(1)
    expect(host.inspect("always")["state"]["restarts"] == again, "restarted after stop")
    yield from killed_and_restarted(host)


def pauses_of(host: Host, name: str) -> list[float]:
    """Seconds from each end to the next start, from the events."""
    lines = host.run(
        "events", "--since", "1h", "--until", "0s", "--filter", f"instance={name}",
        "--format", "json",
    )  # fmt: skip
    from datetime import datetime

    pauses, end = [], 0.0
    for event in map(json.loads, lines.splitlines()):
        at = datetime.fromisoformat(event["time"]).timestamp()
        if event["action"] == "die":
            end = at
        elif event["action"] == "start" and end:
            pauses.append(at - end)
    return pauses


def killed_and_restarted(host: Host) -> Iterator[str]:
    """QEMU killed under a policy: it comes back, on the same port."""
    port = free_ports(1)[0]
    launch(host, "back", port, "--restart", "on-failure")
    folder = host.folder_of("back")
    first = host.record(folder)["qemu"]
    kill(first)
    fresh = until(
        lambda: (r := host.record(folder))["ready"] and r["qemu"] != first and r["qemu"], "back"
    )
    expect(answer(port) == "back", "wrong answer")
    one_line(host, "QEMU killed under on-failure")
    host.run("kill", "back")
    time.sleep(0.5)
    row = host.rows()["back"]
    expect(row["state"] == "exited" and row["exit_code"] == 137, f"capstan kill: {row}")
    yield f"QEMU killed under on-failure: back as process {fresh}; capstan kill ends it"


# --- control ---------------------------------------------------------------------------------


def control(host: Host, *, long: bool, count: int) -> Iterator[str]:
    """What the commands do to a running instance."""
    port = free_ports(1)[0]
    launch(host, "one", port)
    refused = serve(host, "two", port)
    told = f"port 127.0.0.1:{port}/tcp of the host cannot be used" in refused.err
    expect(refused.status == 125 and told and "instance one" in refused.err, refused.err)
    host.run("rm", "two")
    expect(serve(host, "one", port).status == 125, "a name twice")
    host.run("pause", "one")
    expect(host.rows()["one"]["state"] == "paused", "paused")
    host.run("unpause", "one")
    expect(answer(port) == "one", "after unpause")
    host.run("rename", "one", "uno")
    expect(host.run("port", "uno", "80").strip() == f"127.0.0.1:{port}", "port")
    expect("instance" in host.run("top", "uno"), "top")
    usage = json.loads(host.run("stats", "--no-stream", "--format", "json", "uno"))[0]
    expect(usage["pss"] > 1 << 20 and usage["limit"] == 64 << 20, f"stats {usage}")
    host.run("pause", "uno")
    host.run("stop", "uno")
    expect(host.rows()["uno"]["exit_code"] == 143, "stop: 143")
    host.run("run", "-d", "--name", "deaf", "instance", "deaf")
    begin = time.monotonic()
    host.run("stop", "-t", "1", "deaf")
    took = time.monotonic() - begin
    expect(host.rows()["deaf"]["exit_code"] == 137 and 1 <= took < 5, f"deaf: {took:.1f} s")
    yield f"pause, rename, port, top, stats, stop (143), stop -t 1 (137 after {took:.1f} s)"
    yield from attached(host)
    yield from foreground(host)
    yield timing(host, 20 if long else 5)


def attached(host: Host) -> Iterator[str]:
    """stdin and output of an instance in the background."""
    host.run("run", "-d", "-i", "--name", "cat", "instance", "copy")
    process = subprocess.run(
        host.line("attach", "cat"), env=host.env, input=b"one\ntwo\n", capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    expect(process.stdout == b"one\ntwo\nend\n", f"attach: {process.stdout!r} {process.stderr!r}")
    expect(process.returncode == 0, "attach: status")
    host.run("create", "--name", "five", "instance", "count", "5", "7")
    shown = host.call("start", "-a", "five")
    expect(shown.status == 7, f"start -a: {shown}")
    expect(sorted(numbers(shown.out) + numbers(shown.err)) == [1, 2, 3, 4, 5], f"{shown}")
    yield "attach: stdin, output, status; create and start -a"


def foreground(host: Host) -> Iterator[str]:
    """A run in the foreground, stopped from elsewhere, and what remains of it."""
    port = str(free_ports(1)[0])
    line = host.line("run", "--name", "front", "-p", f"{port}:80", "instance", "serve", "x", "80")
    with subprocess.Popen(line, env=host.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        row = host.rows()["front"]
        expect(row["state"] == "running" and port in row["ports"], f"{row}")
        host.run("stop", "front")
        expect(process.wait(10) == 143, "foreground: status")
    expect("front" not in host.rows(), "foreground: gone")
    yield "a foreground run is listed, can be stopped, and is gone with its end"


def timing(host: Host, times: int) -> str:
    """From `run -d` to an instance that runs, warm."""
    took = []
    for _ in range(times):
        begin = time.monotonic()
        host.run("run", "-d", "--name", "quick", "instance", "deaf")
        took.append(time.monotonic() - begin)
        host.run("rm", "-f", "quick")
    return f"run -d takes {statistics.median(took):.2f} s (median of {times})"


# --- storm -----------------------------------------------------------------------------------


def storm(host: Host, *, long: bool, count: int) -> Iterator[str]:
    """Commands at random on the same few names, from several shells at once."""
    seconds, shells = (120, 6) if long else (8, 4)
    seed = count or random.randrange(1 << 30)
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(shells) as pool:
        done = list(pool.map(lambda shell: disturb(host, f"{seed}-{shell}", end), range(shells)))
    refused = sum(one[1] for one in done)
    host.clear()
    places = host.folder / "root" / "instances"
    left = [p.name for p in places.iterdir() if p.is_dir() and p.name not in ("names", "notes")]
    expect(not left and not list((places / "names").iterdir()), f"left {left}")
    yield f"{sum(one[0] for one in done)} commands at random, {refused} refused (seed {seed})"


def disturb(host: Host, seed: str, end: float) -> tuple[int, int]:
    """One shell: how many commands it gave, and how many were refused."""
    rng = random.Random(seed)
    ran = refused = 0
    while time.monotonic() < end:
        name = rng.choice(("a", "b", "c"))
        policy = rng.choice(("no", "always", "on-failure:2"))
        program = rng.choice((["deaf"], ["count", "500", "1"], ["count", "3", "0"]))
        words = rng.choice(
            (
                ["run", "-d", "--name", name, "--restart", policy, "instance", *program],
                ["run", "-d", "--rm", "--name", name, "instance", *program],
                ["run", "--name", name, "instance", "count", "10", "0"],
                ["stop", "-t", "0.2", name],
                ["start", name],
                ["restart", "-t", "0.2", name],
                ["kill", name],
                ["pause", name],
                ["unpause", name],
                ["rm", name],
                ["rm", "-f", name],
                ["rename", name, rng.choice(("a", "b", "c"))],
                ["ps", "-a"],
                ["logs", name],
                ["inspect", "--type", "instance", name],
                ["stats", "--no-stream"],
            )
        )
        done = host.call(*words)
        told = f"{' '.join(words)}: {done.status}: {done.err}"
        unexpected = ("internal error", "Traceback", "is damaged", "was killed", "was cut off")
        expect(not any(word in done.err for word in unexpected), told)
        expect(done.status == 0 or "capstan: " in done.err, told)
        expect(words[0] != "ps" or done.status == 0, told)
        ran, refused = ran + 1, refused + (done.status != 0)
    return ran, refused
