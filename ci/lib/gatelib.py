# SPDX-License-Identifier: BSD-2-Clause
"""What the gates share: the set-up, running things with a deadline, a registry."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
CAPSTAN = ROOT / ".venv" / "bin" / "capstan"
CLEAN_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


class Broken(Exception):
    """A check that failed."""


def cannot_run(reason: str) -> None:
    """End this gate with "could not run"."""
    print(f"cannot run: {reason}")
    sys.exit(2)


def setup(packages: list[str] | None = None) -> None:
    """Install what is missing and make the virtual environment; ends the gate if it cannot."""
    script = '. ci/lib/setup.sh && setup_all "$@" >&2'
    done = subprocess.run(["bash", "-c", script, "setup", *(packages or [])], cwd=ROOT, check=False)
    if done.returncode:
        cannot_run("the set-up failed (see above)")
    os.environ["CAPSTAN_ROOT"] = os.environ.get("CAPSTAN_GATE_ROOT", str(BUILD / "gate-store"))
    os.environ["CAPSTAN_CONFIG"] = os.devnull
    os.environ["PATH"] = f"{CAPSTAN.parent}:{os.environ['PATH']}"


class Result:
    """How a command ended: status (None: no end in time), bytes out, bytes err, seconds."""

    def __init__(self, status: int | None, out: bytes, err: bytes, seconds: float) -> None:
        self.status, self.out, self.err, self.seconds = status, out, err, seconds


def run(
    args: list[str],
    *,
    stdin: bytes = b"",
    timeout: float = 60,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Result:
    """Run a command to its end or its deadline."""
    start = time.monotonic()
    proc = subprocess.Popen(
        args,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    try:
        out, err = proc.communicate(stdin, timeout=timeout)
        # As a shell and capstan say it: 128 + n when signal n ended it.
        status: int | None = proc.returncode if proc.returncode >= 0 else 128 - proc.returncode
    except subprocess.TimeoutExpired:
        os.killpg(proc.pid, 9)
        try:
            out, err = proc.communicate(timeout=10)
        except subprocess.TimeoutExpired as held:  # by a child in a session of its own
            out, err = held.output or b"", held.stderr or b""
        status = None
    return Result(status, out, err, time.monotonic() - start)


def free_port() -> int:
    """A TCP port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def registry(
    folder: Path, port: int, *, tls: dict[str, str] | None = None, passwords: Path | None = None
) -> Iterator[None]:
    """Debian's docker-registry on a port of loopback, with its data in `folder`/data."""
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "gate", "tls": tls or {}},
    }
    if passwords is not None:
        config["auth"] = {"htpasswd": {"realm": "gate", "path": str(passwords)}}
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        line = ["docker-registry", "serve", str(folder / "config.yml")]
        process = subprocess.Popen(line, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 15
        while process.poll() is None and time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        else:
            said = (folder / "log").read_bytes()
            raise Broken(f"docker-registry does not listen on port {port}:\n{tail(said)}")
        yield
    finally:
        process.kill()
        process.wait()


def tail(data: bytes, lines: int = 12) -> str:
    """The last lines of some output, indented."""
    return "\n".join("    " + s for s in data.decode(errors="replace").splitlines()[-lines:])
