# SPDX-License-Identifier: BSD-2-Clause
"""Each folder of the catalog has what it takes; the machines themselves are gate 04-4-compose's."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from capstan import capstanfile, ref

TOP = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    sys.path.insert(0, str(TOP / "ci" / "lib"))
    return importlib.import_module("catalog")


catalog = load()
ENTRIES = catalog.entries()
NAMES = [entry.name for entry in ENTRIES]
README = (TOP / "catalog" / "README.md").read_text()


def test_there_are_enough() -> None:
    wanted = "redis memcached nginx lighttpd haproxy sqlite python node lua perl mosquitto iperf3"
    assert set(wanted.split()) <= set(NAMES)
    folders = {path.name for path in (TOP / "catalog").iterdir() if path.is_dir()}
    assert folders == set(NAMES)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_its_shape(entry: catalog.Entry) -> None:  # type: ignore[name-defined]
    assert ref.parse(entry.name).name == entry.name
    assert set(entry.test) <= catalog.KEYS
    assert entry.packages and entry.about == entry.about.strip() and "\n" not in entry.about
    assert 10 <= len(entry.about) <= 70 and not entry.about.endswith(".")
    assert re.search(rf"^\| \[{entry.name}\]\({entry.name}\) \| \S", README, re.MULTILINE)
    assert "ask" in entry.test or "stdout" in entry.test


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_its_capstanfile(entry: catalog.Entry) -> None:  # type: ignore[name-defined]
    spec = capstanfile.load(entry.folder / "Capstanfile")
    assert spec.memory is not None and spec.network is not None
    for host in spec.files.values():
        assert host.startswith("/") or (entry.folder / host).exists(), host
    ports = {port.partition("/")[0] for port in spec.ports}
    for ask in entry.test.get("ask", []):
        assert set(ask) <= catalog.ASK_KEYS and "expect" in ask
        assert len({"send", "hex", "http"} & set(ask)) == 1
        assert str(ask["port"]) in ports
        re.compile(ask["expect"])
        assert catalog.question(ask, 1)


def test_a_wrong_answer_is_seen() -> None:
    """The judge itself: what it says of an answer that is not the one expected."""
    import socket
    import subprocess
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"other\n")

        threading.Thread(target=serve, daemon=True).start()
        ask = {"port": 1, "send": "x", "expect": "^right"}
        assert catalog.converse(ask, port, 2.0) == b"other\n"
    with subprocess.Popen(["/bin/false"], stdout=subprocess.PIPE) as ended:
        ended.wait()
        with pytest.raises(catalog.Failed, match=r"it ended \(1\)"):
            catalog.answer_to(ask, port, ended)
