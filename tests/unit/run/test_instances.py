# SPDX-License-Identifier: BSD-2-Clause
"""Instances with real supervisors over a fake QEMU: their lives, and what is killed on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capstan.errors import MachineError, UsageError
from capstan.run import logs, records, restart
from capstan.run.foreground import ForegroundKeeper
from capstan.run.instances import Instance, InstanceRequest, Instances, State
from capstan.run.net import NetKind, NetSpec
from capstan.run.spec import Accel, RunSpec
from tests.lib.boot import alive, fake_host, wait_for

# Each exits alone: when the fake QEMU is killed, its child is nobody's.
WAIT = "n=0; while [ $n -lt 400 ]; do n=$((n + 1)); sleep 0.05; done"
SERVE = f"echo go; {WAIT}"
DEAF = f"trap '' TERM; echo go; {WAIT}"


@pytest.fixture
def instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instances]:
    fake_host(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("disk", "kernel"):
        (tmp_path / name).touch()
    made = Instances(tmp_path / "root")
    yield made
    for instance in made.list():
        instance.remove(force=True)


def request(instances: Instances, script: str, **more: object) -> InstanceRequest:
    folder = instances.places.path.parent.parent
    env = {"PATH": os.environ["PATH"], "FAKE": str(more.pop("fake", ""))}
    spec = RunSpec(
        folder / "disk", folder / "kernel", ("sh", "-c", script), env, accel=Accel.TCG, grace=5.0
    )
    return InstanceRequest(spec, "test:latest", **more)  # type: ignore[arg-type]


def started(instances: Instances, script: str, **more: object) -> Instance:
    instance = instances.create(request(instances, script, **more))
    instance.start()
    return instance


def output(instance: Instance) -> dict[str, str]:
    entries = [e for line in logs.Reader(instance.folder.path).read() if (e := logs.parse(line))]
    streams = dict.fromkeys((entry.stream for entry in entries), "")
    for entry in entries:
        streams[entry.stream] += entry.text.decode()
    return streams


def says(instance: Instance, text: str) -> bool:
    return wait_for(lambda: text in output(instance).get("stdout", ""))


def test_life(instances: Instances) -> None:
    instance = started(
        instances, f"trap 'echo bye; exit 5' TERM; echo err >&2; {SERVE}", name="web"
    )
    assert instance.state is State.RUNNING and instance.is_active
    assert says(instance, "go")
    instance.start()  # it runs already
    instance.stop()
    assert instance.state is State.EXITED and instance.record.status == 5
    assert output(instance) == {"stderr": "err\n", "stdout": "go\nbye\n"}
    instance.start()
    assert wait_for(lambda: output(instance)["stdout"] == "go\nbye\ngo\n")
    instance.kill()
    assert instance.wait() == 137
    instance.remove()
    assert not instances.list() and instances.find("web") is None
    assert instances.repair() == []


def test_names(instances: Instances) -> None:
    first = instances.create(request(instances, "true"))
    second = instances.create(request(instances, "true"))
    assert (first.name, second.name) == ("test-1", "test-2")
    with pytest.raises(MachineError, match="an instance test-1 already"):
        instances.create(request(instances, "true", name="test-1"))
    with pytest.raises(MachineError, match="an instance test-1 already"):
        second.rename("test-1")
    second.rename("other")
    assert instances.get("other").id == instances.get(second.id[:40]).id == second.id
    with pytest.raises(MachineError, match="no instance test-2"):
        instances.get("test-2")
    with pytest.raises(UsageError):
        second.rename("no name")
    for instance in (first, second):
        instance.release()
        assert instance.state is State.CREATED


def test_stop_takes_the_time_it_was_given(instances: Instances) -> None:
    instance = started(instances, DEAF)
    assert says(instance, "go")
    begin = time.monotonic()
    instance.stop(0.3)
    assert 0.3 <= time.monotonic() - begin < 4
    assert instance.record.status == 137


def test_pause(instances: Instances) -> None:
    instance = started(instances, SERVE)
    with pytest.raises(MachineError, match="not paused"):
        instance.unpause()
    instance.pause()
    assert instance.state is State.PAUSED
    with pytest.raises(MachineError, match="it is paused"):
        instance.pause()
    instance.unpause()
    assert instance.state is State.RUNNING
    instance.pause()
    instance.stop()
    assert instance.record.status == 143
    with pytest.raises(MachineError, match="not running"):
        instance.pause()


def test_signals_and_stdin(instances: Instances) -> None:
    script = f"trap 'echo usr' USR1; read line; echo got $line; {SERVE}"
    instance = started(instances, script, open_stdin=True)
    assert instance.ask("stdin", data="hello\n")["taken"]
    assert says(instance, "got hello")
    instance.kill(signal.SIGUSR1)
    assert says(instance, "usr")
    assert instance.state is State.RUNNING
    closed = started(instances, SERVE)
    with pytest.raises(MachineError, match="stdin is closed"):
        closed.ask("stdin", data="x")


def test_a_program_that_cannot_start(instances: Instances) -> None:
    instance = instances.create(request(instances, "x", fake="failed 127 x: not found"))
    with pytest.raises(MachineError, match="not found") as caught:
        instance.start()
    assert caught.value.exit_code == 127
    assert (instance.state, instance.record.status) == (State.EXITED, 127)
    crash = instances.create(request(instances, "x", fake="crash", restart=restart.parse("always")))
    with pytest.raises(MachineError, match="QEMU: qemu: cannot do that"):
        crash.start()
    assert crash.record.restarts == 0 and not crash.is_active
    assert instances.repair() == []


@pytest.mark.parametrize(
    ("policy", "status", "restarts"),
    [("no", 3, 0), ("on-failure", 0, 0), ("on-failure:2", 3, 2)],
)
def test_restart_policy(instances: Instances, policy: str, status: int, restarts: int) -> None:
    instance = started(instances, f"echo run; exit {status}", restart=restart.parse(policy))
    assert instance.wait(20) == status
    assert instance.record.restarts == restarts
    assert output(instance)["stdout"] == "run\n" * (restarts + 1)


def test_stop_ends_restarting(instances: Instances) -> None:
    instance = started(instances, "exit 0", restart=restart.parse("always"))
    assert wait_for(lambda: instance.record.restarts >= 2)
    assert wait_for(lambda: instance.state is State.RESTARTING)
    instance.stop()
    assert instance.state is State.EXITED
    with pytest.raises(UsageError, match="exclude each other"):
        started(instances, "true", restart=restart.parse("always"), auto_remove=True)


def test_restart_command(instances: Instances) -> None:
    instance = started(instances, SERVE)
    qemu = instance.record.qemu
    instance.restart(1.0, lambda _: None)
    assert instance.state is State.RUNNING and instance.record.qemu != qemu
    instance.stop()
    instance.restart(1.0, lambda _: None)
    assert instance.state is State.RUNNING


def test_auto_remove(instances: Instances) -> None:
    instance = started(instances, "exit 4", auto_remove=True, name="gone")
    assert wait_for(lambda: not instances.list())
    assert instances.find("gone") is None and instance.folder.path.exists() is False


def test_qemu_is_killed(instances: Instances) -> None:
    instance = started(instances, SERVE, name="web")
    os.kill(instance.record.qemu, signal.SIGKILL)
    assert instance.wait(10) == 137
    assert instances.repair() == ["web: QEMU was killed by SIGKILL"]
    assert instances.repair() == []


def test_supervisor_is_killed(instances: Instances) -> None:
    instance = started(instances, SERVE, name="web", restart=restart.parse("always"))
    record = instance.record
    assert alive(record.pid)
    os.kill(record.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(record.qemu))
    (line,) = instances.repair()
    assert f"web: its supervisor (process {record.pid}) was killed" in line
    assert (instance.state, instance.record.status) == (State.DEAD, 137)
    assert instances.repair() == []
    with pytest.raises(MachineError, match="not running"):
        instance.kill()
    instance.start()
    assert instance.state is State.RUNNING


def test_supervisor_that_does_not_answer(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = started(instances, SERVE)
    monkeypatch.setattr("capstan.run.instance.ANSWER_DEADLINE", 0.2)
    monkeypatch.setattr("capstan.run.instance.QUIT_DEADLINE", 0.1)
    os.kill(instance.record.pid, signal.SIGSTOP)
    instance.remove(force=True)
    assert not instances.list()
    (line,) = instances.repair()
    assert "did not answer and was killed" in line


def test_supervisor_stops_orderly_on_sigterm(instances: Instances) -> None:
    script = f"trap 'echo bye; exit 0' TERM; {SERVE}"
    instance = started(instances, script, restart=restart.parse("always"))
    assert says(instance, "go")
    os.kill(instance.record.pid, signal.SIGTERM)
    assert instance.wait(10) == 0
    assert output(instance)["stdout"] == "go\nbye\n"


def test_host_was_restarted(instances: Instances) -> None:
    instance = started(instances, SERVE, name="web")
    instance.kill()
    record = instance.record
    record.state, record.boot = State.RUNNING, "another"
    assert wait_for(lambda: not instance.is_active)
    instance.folder.save(record)
    (line,) = instances.repair()
    assert "the host was restarted while it ran" in line


def test_many_at_once(instances: Instances) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            started(instances, SERVE)
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    names = {instance.name for instance in instances.list()}
    assert names == {f"test-{number}" for number in range(1, 7)}
    assert len({instance.record.qemu for instance in instances.list()}) == 6


def test_two_starts_and_a_stop_that_comes_early(instances: Instances) -> None:
    instance = started(instances, SERVE)
    instance.stop()

    def start() -> None:
        with contextlib.suppress(MachineError):  # the stop was faster
            instances.get(instance.id).start()

    started_once = [threading.Thread(target=start) for _ in range(2)]
    for thread in started_once:
        thread.start()
    assert wait_for(lambda: instance.is_active)
    instance.stop()  # perhaps before the supervisor has its socket
    for thread in started_once:
        thread.join()
    assert wait_for(lambda: not instance.is_active or instance.state is State.RUNNING)


def test_paths_are_absolute(
    instances: Instances, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = NetSpec(NetKind.USER, ("10.0.2.15/24",), pcap=Path("frames"))
    spec = RunSpec(Path("disk"), Path("kernel"), ("x",), {}, net=card)
    made = instances.create(InstanceRequest(spec, "test"))
    made.release()
    assert made.spec.disk == tmp_path / "disk" and made.spec.net is not None
    assert made.spec.net.pcap == tmp_path / "frames"


def test_a_removal_under_way_is_left_alone(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = instances.create(request(instances, "true"))
    instance.release()
    seen: list[list[str]] = []
    real, depth = Path.unlink, 0

    def unlink(path: Path, missing_ok: bool = False) -> None:
        """After each step another command comes."""
        nonlocal depth
        real(path, missing_ok=missing_ok)
        if records.GONE in str(path) and not depth:
            depth += 1
            seen.append(list(instances.repair()))
            depth -= 1

    monkeypatch.setattr(Path, "unlink", unlink)
    instance.remove()
    assert seen == [[]] * len(seen) and len(seen) >= 3
    assert not list(instances.places.path.glob(".*"))


def test_the_image_is_gone(instances: Instances) -> None:
    instance = instances.create(request(instances, "true"))
    instance.spec.disk.unlink()
    with pytest.raises(MachineError, match=r"its image .* is gone"):
        instance.start()
    assert instance.state is State.CREATED and not instance.is_active


def test_a_full_disk_stops_no_listing(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = started(instances, SERVE, name="web")
    os.kill(instance.record.pid, signal.SIGKILL)
    assert wait_for(lambda: not instance.is_active)

    def write(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(records, "write", write)
        (line,) = instances.repair()
        assert "No space left" in line and instance.state is State.RUNNING
    (line,) = instances.repair()
    assert "was killed" in line and instance.state is State.DEAD


def test_damaged_state_can_be_removed(instances: Instances) -> None:
    instance = instances.create(request(instances, "true"))
    instance.release()
    (instance.folder.path / records.STATE).write_bytes(b"")
    assert instances.repair() == []
    with pytest.raises(MachineError, match="is damaged"):
        instance.start()
    instance.remove()
    assert not instances.list()


def test_foreground_run_is_an_instance(instances: Instances, tmp_path: Path) -> None:
    """In a process of its own: signals belong to the main thread."""
    child = os.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", FRONT, str(tmp_path)])
    try:
        assert wait_for(lambda: bool(instances.list()), 10)
        instance = instances.get("front")
        assert wait_for(lambda: instance.record.ready > 0)
        assert instance.config.foreground and instance.record.pid == child
        with pytest.raises(MachineError, match="in the foreground"):
            instance.restart(1.0, lambda _: None)
        with pytest.raises(MachineError, match="already"):
            ForegroundKeeper(tmp_path / "root", request(instances, "x", name="front"), print)
        instance.stop(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
        assert not instances.list() and instances.repair() == []
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise


def test_killed_foreground_run_leaves_a_line(instances: Instances, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", FRONT, str(tmp_path)])
    assert wait_for(lambda: bool(instances.list()), 10)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (line,) = instances.repair()
    assert line.startswith("front: ") and line.endswith("; it is removed")
    assert not instances.list()


FRONT = f"""
import sys, os
sys.path.insert(0, {os.fspath(Path(__file__).resolve().parents[3])!r})
from pathlib import Path
from capstan import run
from capstan.run.foreground import ForegroundKeeper
from capstan.run.request import InstanceRequest
from capstan.run.spec import Accel, RunSpec
folder = Path(sys.argv[1])
spec = RunSpec(folder / "disk", folder / "kernel", ("sh", "-c", {SERVE!r}),
               {{"PATH": os.environ["PATH"]}}, accel=Accel.TCG)
request = InstanceRequest(spec, "test:latest", name="front")
sys.exit(run.start(spec, print, ForegroundKeeper(folder / "root", request, print)))
"""
