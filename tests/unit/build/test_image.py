# SPDX-License-Identifier: BSD-2-Clause
"""Building: what ends up in tree, image and store, with a stand-in for the pool writer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from capstan import manifest, store
from capstan.build import image
from capstan.build.image import BuildOptions, Plan, build_path, collect, resolve_or_build
from capstan.build.zfs.tree import Node
from capstan.errors import BuildError, CapstanError, ImageError, UsageError
from tests.lib import fakepool
from tests.lib.elfmaker import ET_EXEC, make_elf
from tests.lib.fakepool import FakePool

LD = "/lib64/ld-linux-x86-64.so.2"
STATIC = make_elf(etype=ET_EXEC)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private store, a kernel, and a working directory."""
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(make_elf(etype=ET_EXEC, extra=b"kernel"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("CAPSTAN_KERNEL", str(kernel))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    return fakepool.install(monkeypatch)


def write(path: Path, data: bytes | str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(mode)
    return path


def tree_of(plan: Plan) -> dict[str, int]:
    return {path: node.mode for path, node in plan.tree.files()}


def objects(tmp_path: Path) -> list[str]:
    folder = tmp_path / "store" / "objects"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


# --- what goes in ------------------------------------------------------------------------------


def test_static_program_and_standard_files(here: Path) -> None:
    program = write(here / "hello", STATIC)
    plan = collect(Path("hello"), ["a", "b"], BuildOptions())
    found = tree_of(plan)
    assert plan.config.argv == (str(program), "a", "b")
    assert stat.S_IMODE(found["/tmp"]) == 0o1777 and stat.S_IMODE(found["/root"]) == 0o700
    assert {"/etc/passwd", "/etc/nsswitch.conf", "/dev", "/proc"} <= set(found)
    # The guest writes them, with its own address and the name servers it was given.
    assert not {"/etc/hosts", "/etc/resolv.conf"} & set(found)
    assert "/etc/ld.so.cache" not in found
    assert plan.created == int(program.stat().st_mtime)


def test_script_through_env_and_nested(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "usr/bin/inner", STATIC)
    write(root / "usr/bin/outer", "#! /usr/bin/inner -x y\n")
    write(root / "app/s", "#!/usr/bin/env outer\n")
    plan = collect(Path("/app/s"), ["1"], BuildOptions(root=root))
    assert plan.config.argv == ("/usr/bin/inner", "-x y", "/usr/bin/outer", "/app/s", "1")


def test_program_is_given_by_a_path_that_leads_into_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    program = write(root / "bin/p", STATIC)
    assert collect(program, [], BuildOptions(root=root)).config.argv == ("/bin/p",)
    with pytest.raises(UsageError, match="not below --root"):
        collect(write(tmp_path / "other", STATIC), [], BuildOptions(root=root))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/usr/bin/none\n", "interpreter .*none does not exist"),
        ("#!/usr/bin/env none-such-program\n", "none-such-program is in no directory"),
        ("#!/usr/bin/env -i x\n", "more than a program's name"),
        ("#!/usr/bin/env A=1 x\n", "more than a program's name"),
        ("#!python3\n", "whole path"),
        ("#!\n", "whole path"),
        ("echo hi\n", "not an ELF"),
        ("", "empty"),
    ],
)
def test_bad_scripts(here: Path, text: str, reason: str) -> None:
    with pytest.raises(BuildError, match=reason) as caught:
        collect(write(here / "s", text), [], BuildOptions())
    assert caught.value.hint


def test_script_loop(here: Path) -> None:
    script = write(here / "s", f"#!{here}/s\n")
    with pytest.raises(BuildError, match="too often"):
        collect(script, [], BuildOptions())


def test_unusable_paths(here: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        collect(Path("none/such"), [], BuildOptions())
    with pytest.raises(UsageError, match="has no Capstanfile"):
        collect(here, [], BuildOptions())
    (here / "loop").symlink_to("loop")
    with pytest.raises(BuildError, match="loop"):
        collect(Path("loop"), [], BuildOptions())
    os.mkfifo(here / "fifo")
    with pytest.raises(BuildError, match="not a regular file"):
        collect(Path("fifo"), [], BuildOptions())


def test_capstanfile(here: Path) -> None:
    write(here / "p", STATIC)
    write(here / "data/x/y", "y", 0o600)
    (here / "data/link").symlink_to("x/y")
    write(here / "ROOTFS/etc/passwd", "mine", 0o644)
    write(
        here / "Capstanfile",
        "cmdline: app/p -v\nworkdir: /\nfiles:\n  /app/p: &\n  /srv: data\n  /bin/q: p\n".replace(
            "&", '"&"'
        )
        + "env: {A: b}\nmemory: 64M\ncpus: 2\nports: ['80:80']\n",
    )
    plan = collect(here, ["more"], BuildOptions())
    found = tree_of(plan)
    assert plan.config.argv == ("/app/p", "-v", "more")
    assert stat.S_IMODE(found["/srv/x/y"]) == 0o600 and stat.S_ISLNK(found["/srv/link"])
    assert (plan.config.memory, plan.config.cpus, plan.config.env) == (64 << 20, 2, {"A": "b"})
    passwd = plan.tree.find("/etc/passwd", lower=False)
    assert passwd is not None and passwd.host == str(here / "ROOTFS/etc/passwd")
    assert plan.name == "work"


def test_usr_merge_is_kept(tmp_path: Path, here: Path) -> None:
    root = tmp_path / "root"
    write(root / "usr/lib/ld.so", make_elf(soname="ld.so"))
    (root / "lib").symlink_to("usr/lib")
    write(here / "p", make_elf(interp="/lib/ld.so"))
    write(here / "Capstanfile", "cmdline: /lib/app/p\nfiles: {/lib/app/p: p}\n")
    plan = collect(here, [], BuildOptions(root=root))
    found = tree_of(plan)
    assert stat.S_ISLNK(found["/lib"])
    assert {"/usr/lib/app/p", "/usr/lib/ld.so"} <= set(found)


def test_included_libraries_get_their_closure(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "p", make_elf(interp=LD))
    write(root / LD[1:], make_elf(soname="ld-linux-x86-64.so.2"))
    write(root / "plug/a.so", make_elf(needed=["libx.so"]), 0o644)
    write(root / "lib/libx.so", make_elf(soname="libx.so"))
    options = BuildOptions(root=root, include=("/plug/*.so",))
    assert "/lib/libx.so" in tree_of(collect(Path("/p"), [], options))
    with pytest.raises(BuildError, match="no file matches"):
        collect(Path("/p"), [], BuildOptions(root=root, include=("/none*",)))


def test_links_out_of_an_included_directory_bring_their_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "p", STATIC)
    write(root / "etc/site.py", "x")
    (root / "lib/python").mkdir(parents=True)
    (root / "lib/python/site.py").symlink_to("/etc/site.py")
    options = BuildOptions(root=root, include=("/lib/python",))
    assert "/etc/site.py" in tree_of(collect(Path("/p"), [], options))


def test_hard_links_stay_one_file(here: Path) -> None:
    write(here / "d/a", STATIC)
    (here / "d/b").hardlink_to(here / "d/a")
    write(here / "Capstanfile", "cmdline: /d/a\nfiles: {/d: d}\n")
    nodes = dict(collect(here, [], BuildOptions()).tree.files())
    assert nodes["/d/a"] is nodes["/d/b"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cmdline: /p\nbase: other\n", "no image other:latest"),
        ("cmdline: /p\nbase: A B\n", "not the name of an image"),
        ("cmdline: /p\nbuild: /bin/false\n", "status 1"),
        ("cmdline: /p\nbuild: /none/such\n", "cannot start"),
        ("cmdline: /p\nfiles: {/p: none}\n", "files: /p: .*none does not exist"),
        ("cmdline: /p\nfiles: {/p: /none}\n", "files: /p: /none does not exist"),
        ("cmdline: /not/here\n", "program /not/here does not exist"),
        ("cmdline: no-such-program\n", "in no directory"),
        ("cmdline: /d\nfiles: {/d: ., /d/x/y: p, /d/x: p}\n", "is a directory"),
    ],
)
def test_bad_capstanfiles(here: Path, text: str, reason: str) -> None:
    write(here / "p", STATIC)
    write(here / "Capstanfile", text)
    with pytest.raises(CapstanError, match=reason):
        collect(here, [], BuildOptions())


def test_build_command_runs_first(here: Path) -> None:
    write(here / "p", STATIC)
    write(here / "Capstanfile", "cmdline: /out\nbuild: cp p out\nfiles: {/out: out}\n")
    assert "/out" in tree_of(collect(here, [], BuildOptions()))


def test_source_date_epoch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / "p", STATIC)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    plan = collect(Path("p"), [], BuildOptions())
    assert plan.created == 1000
    assert max(node.mtime_ns for _, node in plan.tree.files()) == 1000 * 10**9
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH=soon"):
        collect(Path("p"), [], BuildOptions())


# --- the image ---------------------------------------------------------------------------------


def test_image_has_header_manifest_and_kernel(here: Path, pool: FakePool) -> None:
    write(here / "Hello.World", STATIC)
    made = build_path(Path("Hello.World"), ["x"], BuildOptions(name="a/b:v1"))
    data = made.disk.read_bytes()
    header = store.Header.unpack(data[manifest.HEADER_OFFSET :], "x")
    kernel = data[manifest.KERNEL_OFFSET :][: header.kernel_size]
    assert kernel == made.kernel.read_bytes() == Path(os.environ["CAPSTAN_KERNEL"]).read_bytes()
    assert made.manifest.name == "a/b:v1" and made.manifest.config.argv[1:] == ("x",)
    opened = store.Store().open("a/b:v1")
    assert opened == made
    assert pool.names == ["a-b"]


def test_the_pool_has_the_tree(here: Path) -> None:
    from capstan.build.zfs.reader import Pool

    write(here / "p", STATIC)
    disk = build_path(Path("p")).disk
    with disk.open("rb") as file:
        names = {os.fsdecode(name) for name, _ in Pool.open(file, disk).filesystem().walk()}
    expected = tree_of(collect(Path("p"), [], BuildOptions()))
    assert {"/" + name.strip("/") for name in names} | {"/"} == set(expected)
    assert store.read_manifest(disk).pool.size == disk.stat().st_size


def test_two_builds_are_equal(here: Path, tmp_path: Path, pool: FakePool) -> None:
    write(here / "p", STATIC)
    first = build_path(Path("p")).disk.read_bytes()
    os.environ["CAPSTAN_ROOT"] = str(tmp_path / "other")
    assert build_path(Path("p")).disk.read_bytes() == first
    assert pool.calls == 2


def test_a_failed_write_leaves_nothing(here: Path, tmp_path: Path, pool: FakePool) -> None:
    write(here / "p", STATIC)
    pool.error = OSError(28, "No space left on device")
    with pytest.raises(BuildError, match="No space left"):
        build_path(Path("p"))
    assert objects(tmp_path) == [] and not store.Store().list()


def test_builds_are_reused_until_a_file_changes(here: Path, pool: FakePool) -> None:
    write(here / "p", STATIC)
    first = resolve_or_build("./p")
    assert first.ref is None
    assert resolve_or_build("./p").digest == first.digest
    assert pool.calls == 1
    write(here / "p", make_elf(etype=ET_EXEC, extra=b"changed"))
    assert resolve_or_build("./p").digest != first.digest
    assert pool.calls == 2


def test_a_change_the_clock_cannot_see_counts(here: Path, pool: FakePool) -> None:
    program = write(here / "p", make_elf(etype=ET_EXEC, extra=b"one"))
    stamp = program.stat()
    first = resolve_or_build("./p")
    program.write_bytes(make_elf(etype=ET_EXEC, extra=b"two"))
    os.utime(program, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert resolve_or_build("./p").digest != first.digest


def test_history(here: Path, pool: FakePool) -> None:
    write(here / "low/p", STATIC)
    write(here / "low/data/a", "abc")
    write(here / "low/Capstanfile", "cmdline: /p\nfiles: {/p: p, /data: data}\nnolink: [/p]\n")
    low = build_path(here / "low", (), BuildOptions(name="low", compress=False))
    rows = {(step.kind, step.detail): (step.files, step.size) for step in low.manifest.history}
    assert rows["files", "/p"] == (1, len(STATIC)) and rows["files", "/data"] == (1, 3)
    assert rows["program", "/p"] == (0, 0)
    kinds = [step.kind for step in low.manifest.history]
    assert kinds == ["files", "files", "program", "kernel", "build"]
    assert low.manifest.history[-1].detail.endswith(", not compressed, linked, nolink /p")
    write(here / "high/Capstanfile", "cmdline: /p\nbase: low\n")
    high = build_path(here / "high", (), BuildOptions(link=False))
    first, *_, last = high.manifest.history
    assert (first.kind, first.detail, first.files) == ("base", f"low:latest {low.digest[:12]}", 2)
    assert ", compressed, not linked" in last.detail


def test_names_come_before_files(here: Path, pool: FakePool) -> None:
    write(here / "p", STATIC)
    said: list[str] = []
    assert resolve_or_build("p", notify=said.append).ref is None
    build_path(Path("p"), ["named"])
    named = resolve_or_build("p", notify=said.append)
    assert str(named.ref) == "p:latest" and "./p" in said[0]
    assert resolve_or_build("./p").manifest.config.argv[1:] == ()
    with pytest.raises(CapstanError, match="no image and no file"):
        resolve_or_build("none")


def test_base(here: Path) -> None:
    write(here / "low/p", STATIC)
    write(here / "low/data/a", "a")
    (here / "low/data/b").hardlink_to(here / "low/data/a")
    (here / "low/data/l").symlink_to("a")
    write(
        here / "low/Capstanfile",
        "cmdline: /p\nfiles: {/p: p, /data: data}\nenv: {A: 1, B: 1}\nmemory: 1G\n",
    )
    low = build_path(here / "low", (), BuildOptions(name="low"))
    write(here / "high/x", "x")
    write(
        here / "high/Capstanfile",
        "cmdline: /p -x\nbase: low\nfiles: {/data/x: x}\nenv: {B: 2}\n",
    )
    plan = collect(here / "high", [], BuildOptions())
    nodes = dict(plan.tree.files())
    below = dict(collect(here / "low", [], BuildOptions()).tree.files())
    assert set(nodes) == set(below) | {"/data/x"}
    assert nodes["/data/a"] is nodes["/data/b"] and nodes["/data/l"].target == b"a"
    assert (plan.config.argv, plan.config.memory) == (("/p", "-x"), 1 << 30)
    assert plan.config.env == {"A": "1", "B": "2"}
    write(here / "low/data/a", "changed")
    index = low.disk.parent / "tree.json"
    for bend in (
        lambda: None,
        lambda: index.write_text('{"version": 1, "nodes": [["/x", 7]]}'),
        lambda: index.write_text('{"version": 99}'),
        index.unlink,
    ):
        bend()
        again = dict(collect(here / "high", [], BuildOptions()).tree.files())
        assert set(again) == set(nodes), "out of the pool"
        assert base_content(again["/data/b"]) == b"a" and again["/data/a"] is again["/data/b"]
    with low.disk.open("r+b") as disk:
        disk.write(bytes(256 << 10))
    with pytest.raises(ImageError, match="label"):
        collect(here / "high", [], BuildOptions())


def base_content(node: Node) -> bytes:
    return node.source.read_bytes() if isinstance(node.source, Path) else bytes(node.source or b"")


def test_kernels_are_checked(here: Path, monkeypatch: pytest.MonkeyPatch, pool: FakePool) -> None:
    write(here / "p", STATIC)
    for data in (b"text", b"\x7fELF".ljust(manifest.KERNEL_MAX + 1)):
        monkeypatch.setenv("CAPSTAN_KERNEL", str(write(here / "k", data)))
        with pytest.raises(BuildError, match="guest kernel"):
            build_path(Path("p"))
    monkeypatch.setenv("CAPSTAN_KERNEL", str(here / "none"))
    with pytest.raises(BuildError, match="No such file"):
        build_path(Path("p"))


def test_a_damaged_image_is_named(here: Path, pool: FakePool) -> None:
    write(here / "p", STATIC)
    disk = build_path(Path("p")).disk
    for offset in (manifest.HEADER_OFFSET, manifest.MANIFEST_OFFSET):
        data = bytearray(disk.read_bytes())
        data[offset] ^= 1
        disk.write_bytes(data)
        with pytest.raises(ImageError, match=r"disk\.img"):
            store.Store().open("p")
        data[offset] ^= 1
        disk.write_bytes(data)
    assert store.Store().open("p")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hello", "hello"),
        ("c0d1", "capstan-c0d1"),
        ("mirror-x", "capstan-mirror-x"),
        ("7z", "capstan-7z"),
        ("Ünï", "n"),
        ("", "image"),
    ],
)
def test_pool_names(name: str, expected: str) -> None:
    assert image.pool_name_for(name) == expected
