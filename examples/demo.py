# SPDX-License-Identifier: BSD-2-Clause
"""What `Capstanfile.example` runs: a little of the standard library, always with one result."""

import hashlib
import json
import sqlite3
import threading

WORDS = ["anchor", "bollard", "capstan", "davit", "eyelet", "fairlead"]


def digests() -> dict[str, str]:
    """The SHA-256 of every word, each computed by a thread of its own."""
    found: dict[str, str] = {}
    lock = threading.Lock()

    def work(word: str) -> None:
        digest = hashlib.sha256(word.encode()).hexdigest()
        with lock:
            found[word] = digest[:16]

    threads = [threading.Thread(target=work, args=(word,)) for word in WORDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def totals(rows: int) -> list[tuple[str, int, int]]:
    """Number of rows and sum of values by word, from a database in memory."""
    with sqlite3.connect(":memory:") as db:
        db.execute("create table item (word text, value integer)")
        data = ((WORDS[n % len(WORDS)], n * n % 97) for n in range(rows))
        db.executemany("insert into item values (?, ?)", data)
        query = "select word, count(*), sum(value) from item group by word order by word"
        return [(str(word), int(count), int(total)) for word, count, total in db.execute(query)]


print("Hello from Python in a virtual machine of its own.")
print(json.dumps({"sha256": digests(), "rows": totals(10_000)}, indent=1, sort_keys=True))
