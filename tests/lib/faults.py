# SPDX-License-Identifier: BSD-2-Clause
"""Stops or fails a command at every point where it changes the disk, and looks at what is left.

`Faults` counts the steps of `capstan.fs` (fsync, rename, unlink, new files) and the writes to new
files. At the chosen one the process is killed, or the call fails with ENOSPC or EIO. Commands run
in forked children, so nothing has to be imported again.

usage: faults.py [--seconds N] [--seed N] [OPERATION...]      (see OPERATIONS)
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))

from capstan import fs, ref, upkeep  # noqa: E402
from capstan.cli.main import main as capstan  # noqa: E402
from capstan.errors import CapstanError  # noqa: E402
from capstan.store import Store  # noqa: E402
from tests.lib import stored  # noqa: E402
from tests.lib.elfmaker import ET_EXEC, make_elf  # noqa: E402

KINDS = ("kill", "ENOSPC", "EIO")
CHILD_SECONDS = 60
PRELOADED = (
    "capstan.build.image",
    "capstan.build.link.linker",
    "capstan.build.zfs.writer",
    "capstan.build.zfs.reader",
    "capstan.cli.archive_cmds",
    "capstan.cli.build_cmds",
    "capstan.cli.image_cmds",
    "capstan.cli.repo_cmds",
    "capstan.cli.run_cmds",
    "capstan.repo.pull",
    "capstan.repo.push",
    "capstan.run.instances",
    "capstan.cli.system_cmds",
    "capstone",
    "lz4.block",
    "numpy",
    "yaml",
    "zstandard",
)
"""What children would import one by one."""


class Faults:
    """Counts steps; at step `at` (from 1) it kills the process or raises. 0: only counts."""

    def __init__(self, kind: str = "", at: int = 0) -> None:
        self.kind, self.at, self.count = kind, at, 0
        self.trace: list[str] = []

    def step(self, what: str, path: object) -> None:
        """One step more."""
        self.count += 1
        self.trace.append(f"{what} {path}")
        if self.count != self.at:
            return
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.kind)
        raise OSError(number, os.strerror(number), os.fspath(str(path)))

    def install(self) -> None:
        """Let `capstan.fs` and its new files tell us."""
        faults = self

        class File(io.FileIO):
            def write(self, data: object, /) -> int:
                faults.step("write", self.name)
                return super().write(data)  # type: ignore[arg-type]

        fs.before = self.step
        fs.raw_file = File


@dataclass(frozen=True)
class Ended:
    """How a child ended, what it said on stderr, and the steps it counted."""

    status: int
    err: str
    steps: int
    last: str


def run(args: Sequence[str], root: Path, kind: str = "", at: int = 0) -> Ended:
    """`capstan ARGS` on the store `root` in a child."""
    with tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            _child(args, root, kind, at, err.fileno(), told.fileno())
        status = _wait(child)
        err.seek(0)
        told.seek(0)
        count, _, last = told.read().decode(errors="replace").partition("\n")
        return Ended(status, err.read().decode(errors="replace"), int(count or 0), last)


def _child(
    args: Sequence[str], root: Path, kind: str, at: int, err: int, told: int
) -> None:  # pragma: no cover
    status = 70
    try:
        signal.alarm(CHILD_SECONDS)
        null = os.open(os.devnull, os.O_RDWR)
        for to, source in ((0, null), (1, null), (2, err)):
            os.dup2(source, to)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        os.environ["CAPSTAN_ROOT"] = str(root)
        faults = Faults(kind, at)
        faults.install()
        try:
            capstan(args)
        except SystemExit as end:
            status = int(end.code or 0)
        os.write(told, f"{faults.count}\n{faults.trace[-1] if faults.trace else ''}".encode())
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


# --- operations --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """A command, and what makes the store it works on; more come with the parts of capstan."""

    args: Callable[[Path], list[str]]
    prepare: Callable[[Path, Store], object] = lambda _, store: base_store(store)
    needs: str = ""  # a program without which it cannot be tried
    then: tuple[str, ...] = ()  # a command that has to end well after the fault


def base_store(store: Store) -> None:
    """Two images, one of them with two names, one without a name, and one registry digest."""
    one = stored.put(store, "old", b"1")
    store.label(one, ref.parse("second"))
    store.add_repo_digest(one, "localhost:5000/old@sha256:" + "ab" * 32)
    stored.put(store, "other", b"2")
    stored.put(store, None, b"3", key="k")


def _archive(work: Path, store: Store) -> None:
    base_store(store)
    elsewhere = Store(work / "elsewhere")
    stored.put(elsewhere, "new", b"new" * 9999)
    if run(["save", "-o", str(work / "new.tar"), "new"], elsewhere.root).status:
        raise AssertionError("save failed")


def _based(work: Path, store: Store) -> None:
    """A base without an index, as it comes from elsewhere."""
    base_store(store)
    if run(["build", "-q", "-t", "low", str(work / "program")], store.root).status:
        raise AssertionError("build failed")
    (store.open("low").disk.parent / "tree.json").unlink()


def _real(work: Path, store: Store) -> None:
    """With an image that has a pool, as push wants it."""
    base_store(store)
    if run(["build", "-q", "-t", "low", str(work / "program")], store.root).status:
        raise AssertionError("build failed")


def _pushed(work: Path, store: Store) -> None:
    """With an image in the registry that is not here."""
    base_store(store)
    elsewhere = Store(work / "pushed")
    _real(work, elsewhere)
    if run(["push", "-q", "low", f"{_host(work)}/team/new:v1"], elsewhere.root).status:
        raise AssertionError("push failed")


def _host(work: Path) -> str:
    return (work / "registry").read_text()


def _bootable(work: Path, store: Store) -> None:
    """With an image that runs: the real kernel, a real program."""
    base_store(store)
    old = os.environ.pop("CAPSTAN_KERNEL")
    try:
        ended = run(["build", "-q", "-t", "low", "/bin/true"], store.root)
    finally:
        os.environ["CAPSTAN_KERNEL"] = old
    if ended.status:
        raise AssertionError(f"build failed: {ended.err}")


def _old(_: Path, store: Store) -> None:
    base_store(store)
    (store.root / "version").unlink()


OPERATIONS: dict[str, Operation] = {
    "build": Operation(lambda work: ["build", "-q", "-t", "new", str(work / "program")]),
    "build over": Operation(lambda work: ["build", "-q", "-t", "old", str(work / "program")]),
    "build again": Operation(
        lambda work: ["build", "-q", "-t", "third", str(work / "program")],
        lambda work, store: run(["build", "-q", str(work / "program")], store.root),
    ),
    "build on": Operation(lambda work: ["build", "-q", "-t", "new", str(work / "high")], _based),
    "upgrade": Operation(lambda _: ["tag", "old", "new"], _old),
    "tag": Operation(lambda _: ["tag", "other", "new"]),
    "tag over": Operation(lambda _: ["tag", "other", "old"]),
    "rmi": Operation(lambda _: ["rmi", "-y", "other"]),
    "rmi by ID": Operation(lambda _: ["rmi", "-f", _digest_of_old()]),
    "load": Operation(lambda work: ["load", "-i", str(work / "new.tar")], _archive),
    "save": Operation(lambda work: ["save", "-o", str(work / "out.tar"), "old", "other"]),
    "export": Operation(lambda work: ["export", "-o", str(work / "out.img"), "old"]),
    "prune": Operation(lambda _: ["system", "prune", "-f"]),
    "prune -a": Operation(lambda _: ["system", "prune", "-a", "-f"]),
    "push": Operation(lambda work: ["push", "-q", "low", f"{_host(work)}/team/x:v1"], _real),
    "pull": Operation(lambda work: ["pull", "-q", f"{_host(work)}/team/new:v1"], _pushed),
    "run": Operation(
        lambda _: ["run", "--rm", "low"], _bootable, "qemu-system-x86_64", ("ps", "-a")
    ),
    "run -d": Operation(
        lambda _: ["run", "-d", "--rm", "low"], _bootable, "qemu-system-x86_64", ("ps", "-a")
    ),
}


FIRST = ("load", "rmi", "run", "push", "pull", "build over")
"""Tried once each, however short the time is."""


def _digest_of_old() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return stored.put(Store(Path(folder)), "old", b"1").digest


class Bench:
    """A folder with one prepared store per operation, copied for every try."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for module in PRELOADED:
            importlib.import_module(module)
        program = folder / "program"
        program.write_bytes(make_elf(etype=ET_EXEC, extra=b"x" * 5000))
        program.chmod(0o755)
        os.utime(program, (1, 1))
        (folder / "high").mkdir()
        (folder / "high" / "Capstanfile").write_text(f"cmdline: {program}\nbase: low\n")
        (folder / "k").write_bytes(make_elf(etype=ET_EXEC))
        self._registry = start_registry(folder / "registry")
        os.environ["CAPSTAN_KERNEL"] = str(folder / "k")

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._registry, signal.SIGKILL)
        os.waitpid(self._registry, 0)

    def steps(self, name: str) -> int:
        """How many steps the operation has; it has to go well."""
        template = self.folder / f"template-{name}"
        OPERATIONS[name].prepare(self.folder, Store(template))
        ended = self._run(name, self._copy(template))
        if ended.status or not ended.steps:
            raise AssertionError(f"{name}: without a fault: {ended}")
        return ended.steps

    def try_at(self, name: str, kind: str, at: int) -> None:
        """Fail at one step; AssertionError says what is not as it should be."""
        root = self._copy(self.folder / f"template-{name}")
        before = names(Store(root))
        ended = self._run(name, root, kind, at)
        where = f"{name}, {kind} at step {at}"
        try:
            self._examine(name, kind, ended, Store(root), before)
        except (AssertionError, CapstanError, OSError) as err:
            raise AssertionError(f"{where} ({ended.last}): {err!r}\n{ended.err}") from err
        finally:
            _remove(root)

    def _examine(
        self, name: str, kind: str, ended: Ended, store: Store, before: dict[str, str]
    ) -> None:
        if kind == "kill":
            assert ended.status in (-signal.SIGKILL, 0), f"status {ended.status}"
        else:
            assert ended.status in (0, 125), f"status {ended.status}"
            assert "Traceback" not in ended.err and "internal error" not in ended.err
            assert ended.status == 0 or ended.err.startswith("capstan: "), "no message"
        found = upkeep.check(store)
        assert not [row for row in found if "version 0" not in row.problem], found
        if OPERATIONS[name].then:
            then = run(OPERATIONS[name].then, store.root)
            assert then.status == 0, f"{OPERATIONS[name].then}: {then}"
        after = names(store)
        args = OPERATIONS[name].args(self.folder)
        touched = {"new", "third", "old", "second"} if args[0] != "tag" else {"new", "old"}
        for known, digest in before.items():
            gone = args[0] in ("rmi", "system") or known.partition(":")[0] in touched
            assert after.get(known) == digest or gone, f"{known} was {digest[:12]}: {after}"
        again = self._run(name, store.root)
        retried = "no image" in again.err and args[0] == "rmi"
        assert again.status == 0 or retried, f"the second try: {again.err}"
        assert not upkeep.check(store, deep=True), "after the second try"
        store.prune(named=False)  # as any build would: what dead processes left is gone now
        leftovers = [str(path) for path in store.root.rglob(f"{fs.TEMP_PREFIX}*")]
        # What is in the directory of an instance goes with it.
        leftovers = [path for path in leftovers if "/instances/" not in path]
        assert not leftovers, f"left: {leftovers}"

    def _run(self, name: str, root: Path, kind: str = "", at: int = 0) -> Ended:
        return run(OPERATIONS[name].args(self.folder), root, kind, at)

    def _copy(self, template: Path) -> Path:
        root = Path(tempfile.mkdtemp(prefix="store-", dir=self.folder))
        if template.exists():
            shutil.copytree(template, root, symlinks=True, dirs_exist_ok=True)
        return root


def _remove(root: Path) -> None:
    """Remove a store; an instance in it may be about to end."""
    end = time.monotonic() + 20
    while root.exists() and time.monotonic() < end:
        shutil.rmtree(root, ignore_errors=True)
        if root.exists():
            time.sleep(0.05)


def start_registry(told: Path) -> int:
    """The process of a registry in memory; its host and port are written to the file `told`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        from tests.lib.registry import Registry

        with Registry() as registry:
            told.write_text(registry.host)
            os.close(writing)
            while True:
                signal.pause()
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return child


def names(store: Store) -> dict[str, str]:
    """What is in the store: the ID of every name."""
    found, damaged = store.scan()
    assert not damaged, damaged
    return {str(image.ref): image.digest for image in found}


def draws(
    bench: Bench, chosen: Sequence[str], rng: random.Random
) -> Iterator[tuple[str, str, int]]:
    """Every (operation, kind, step) once, in random order; a store is prepared when it is drawn.

    Those of `FIRST` come first, once each.
    """
    left: dict[str, list[tuple[str, int]]] = {}
    open_ones = list(chosen)
    first = [name for name in FIRST if name in chosen]
    while open_ones:
        name = first.pop() if first else rng.choice(open_ones)
        if name not in left:
            every = [(kind, at) for at in range(1, bench.steps(name) + 1) for kind in KINDS]
            rng.shuffle(every)
            left[name] = every
        if left[name]:
            yield name, *left[name].pop()
        else:
            open_ones.remove(name)


def possible(names: Sequence[str]) -> list[str]:
    """The operations whose programs are there; the others are told."""
    for name in names:
        needed = OPERATIONS[name].needs
        if needed and shutil.which(needed) is None:
            print(f"without {needed}: {name} is not tried")
    return [n for n in names if not OPERATIONS[n].needs or shutil.which(OPERATIONS[n].needs)]


def main() -> int:
    """Try points in random order for some time; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("operations", nargs="*", default=list(OPERATIONS))
    given = parser.parse_args()
    start, failed = time.monotonic(), 0
    tried: dict[str, int] = {}
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True)
        folder = stack.enter_context(made)
        bench = stack.enter_context(Bench(Path(folder)))
        chosen = possible(given.operations)
        least = len(set(FIRST) & set(chosen))
        for name, kind, at in draws(bench, chosen, random.Random(given.seed)):
            if time.monotonic() - start > given.seconds and len(tried) >= least:
                break
            tried[name] = tried.get(name, 0) + 1
            try:
                bench.try_at(name, kind, at)
            except AssertionError as err:
                failed += 1
                print(f"FAILED: {err}")
    counts = ", ".join(f"{name} {count}" for name, count in sorted(tried.items()))
    took = time.monotonic() - start
    print(f"{sum(tried.values())} faults in {took:.1f} s: {counts}")
    return 1 if failed or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
