# SPDX-License-Identifier: BSD-2-Clause
"""Many processes on one store, killed at any time: what is left has to be whole.

usage: storm.py [--seconds N] [--seed N] [--workers N]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))

from capstan import fs, ref, store, upkeep  # noqa: E402
from capstan.errors import ImageError  # noqa: E402
from capstan.store import Store  # noqa: E402
from tests.lib import stored  # noqa: E402

NAMES = ("a", "b", "host.example/c", "d:v1", "d:v2")


def work(root: Path, seed: int) -> None:
    """Do things until killed; the names of the store are everybody's, its content is known."""
    rng = random.Random(seed)
    place = Store(root)
    store.GRACE = 0.05
    while True:
        name = rng.choice(NAMES)
        try:
            _one(place, rng, name)
        except ImageError as err:
            # Somebody else was faster; nothing else may be wrong.
            known = ("there is no image", "not in the store", "in use", "several names")
            if not any(text in err.message for text in known):
                print(f"FAILED: {err.message}", flush=True)
                os._exit(1)


def _one(place: Store, rng: random.Random, name: str) -> None:
    kind = rng.randrange(6)
    if kind <= 2:
        content = b"%d" % rng.randrange(5)
        stored.put(place, name, content * 1000, key=content.hex() if rng.random() < 0.5 else None)
    elif kind == 3:
        place.remove(name, force=rng.random() < 0.5)
    elif kind == 4:
        place.label(place.open(name), ref.parse(rng.choice(NAMES)))
    else:
        image = place.open(name)
        with place.hold(image.digest, "a worker"):
            assert image.disk.read_bytes()[: 4 << 20]
            time.sleep(rng.random() * 0.01)
            assert image.disk.is_file(), "gone while it was held"


def start(root: Path, seed: int) -> int:
    """A worker's process ID."""
    child = os.fork()
    if child == 0:
        try:
            work(root, seed)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(1)
    return child


def storm(root: Path, seconds: float, workers: int, seed: int) -> tuple[int, list[str]]:
    """How many processes were killed, and what was wrong."""
    rng = random.Random(seed)
    children = [start(root, rng.getrandbits(40)) for _ in range(workers)]
    killed, wrong = 0, []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(rng.random() * 0.05)
        victim = rng.randrange(workers)
        os.kill(children[victim], signal.SIGKILL)
        _, status = os.waitpid(children[victim], 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            wrong.append(f"a worker ended by itself: {os.waitstatus_to_exitcode(status)}")
        killed += 1
        children[victim] = start(root, rng.getrandbits(40))
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return killed, wrong


def examine(place: Store) -> list[str]:
    """What is wrong with the store after all that."""
    wrong = [f"{row.what}: {row.problem}" for row in upkeep.check(place, deep=True)]
    store.GRACE = -1.0
    stored.put(place, "last", b"last")
    place.prune(named=False)
    wrong += [f"{d} is held by {place.owners(d)}" for d in place.digests() if place.owners(d)]
    wrong += [f"left: {path}" for path in place.root.rglob(f"{fs.TEMP_PREFIX}*")]
    named = set(place.all_names())
    wrong += [f"unnamed, but there: {digest}" for digest in place.digests() if digest not in named]
    wrong += [f"{path} is held by nobody" for path in place.root.rglob(".holds/*")]
    return wrong


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        place = Store(Path(folder) / "s")
        killed, wrong = storm(place.root, given.seconds, given.workers, given.seed)
        wrong += examine(place)
        print(f"{killed} processes killed in {given.seconds:g} s, {len(place.list())} names left")
    for line in wrong:
        print(f"FAILED: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
