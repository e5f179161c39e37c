# SPDX-License-Identifier: BSD-2-Clause
"""Which program an image starts: a path or command line becomes an argv that begins with an ELF.

Scripts are resolved here (`man 2 execve`): the interpreter of `#!` takes their place in argv, `env
NAME` is searched in PATH at once.
"""

from __future__ import annotations

import os
import posixpath
import shlex
from collections.abc import Sequence
from pathlib import Path

from capstan.build.closure import Closure
from capstan.build.rootfs import Found, Tree, unreadable
from capstan.errors import BuildError, UsageError
from capstan.manifest import DEFAULT_PATH

MAX_SCRIPTS = 4
MAX_FIRST_LINE = 256


def guest_path(tree: Tree, path: Path) -> str:
    """Where the program that the user calls `path` is in the image.

    Under `/` that is its own path. With another root an absolute path starts there, and a path
    that leads into the root from outside is cut. A bare name that is no file here is searched in
    PATH.

    Raises:
        UsageError: there is no such file, or it is not under the root.
    """
    text = os.fspath(path)
    is_plain = text.startswith("/") and (tree.host_root or ".." not in path.parts)
    if is_plain and tree.find(text) is not None:
        return _lexical(text)
    if not path.exists() and not path.is_symlink():
        named = tree.search(text, os.environ.get("PATH") or DEFAULT_PATH)
        if named is not None:
            return named
        raise UsageError(f"{text} does not exist", hint="give the path of a program or directory")
    # Only the folder is resolved: the name may be a link that tells the program what to do.
    full = path.absolute() if ".." not in path.parts else path.parent.resolve() / path.name
    if not tree.host_root:
        return _lexical(os.fspath(full))
    root = tree.host_root.rstrip("/") + "/"
    inside = os.fspath(path.parent.resolve() / path.name)
    if not inside.startswith(root):
        raise UsageError(f"{text} is not below --root {tree.host_root}", hint="name a file in it")
    return _lexical("/" + inside.removeprefix(root))


def add_command(
    closure: Closure, argv: Sequence[str], *, search_path: str | None = None, workdir: str = "/"
) -> tuple[str, ...]:
    """The command line with its program resolved; program, scripts and libraries are in the tree.

    Raises:
        BuildError: the program or an interpreter is missing or cannot be used.
    """
    tree = closure.tree
    folders = search_path or DEFAULT_PATH
    line = (_locate(tree, argv[0], folders, workdir), *argv[1:])
    for _ in range(MAX_SCRIPTS + 1):
        found = tree.add(line[0])
        first = _first_line(found)
        if first is None:
            closure.add_program(line[0])
            return line
        line = (*_interpreter(tree, line[0], first, folders), *line)
    raise BuildError(
        f"{tree.name(line[-1])}: interpreters of scripts are scripts again, too often",
        hint="the last `#!` has to name an ELF program",
    )


def warn_python(tree: Tree, path: str) -> None:
    """Warn when a Python has no standard library in the image: it would not start."""
    found = tree.find(path, lower=False)
    if found is None:
        return
    folder, _, name = found.path.rpartition("/")
    if not name.startswith("python3."):
        return
    lib = f"{folder.rpartition('/')[0]}/lib/{name}"
    if tree.find(f"{lib}/encodings", lower=False) is None and tree.find(lib) is not None:
        tree.warnings.append(
            f"{name} will not start without its standard library: "
            f"add `--include {lib}`, or `{lib}: {posixpath.dirname(lib)}/&` to `files:`"
        )


def _lexical(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part not in {"", "."})


def _locate(tree: Tree, name: str, folders: str, workdir: str) -> str:
    if "/" in name:
        path = name if name.startswith("/") else f"{workdir.rstrip('/')}/{name}"
        if tree.find(path) is None:
            raise BuildError(
                f"the program {tree.name(path)} does not exist",
                hint="name it in `files:` (guest: host), or give its path on this machine",
            )
        return _lexical(path)
    found = tree.search(name, folders)
    if found is None:
        raise BuildError(
            f"the program {name} is in no directory of {folders}",
            hint="write its whole path in cmdline, and name it in `files:` if it is your own",
        )
    return found


def _first_line(found: Found) -> bytes | None:
    """What follows `#!` in a script, None for other files."""
    if found.node is not None and isinstance(found.node.source, bytes):
        head = found.node.source[:MAX_FIRST_LINE]
    elif not found.is_file or found.host is None:
        return None
    else:
        try:
            with Path(found.host).open("rb") as file:
                head = file.read(MAX_FIRST_LINE)
        except OSError as err:
            raise unreadable(found.host, err) from err
    if not head.startswith(b"#!"):
        return None
    return head[2:].split(b"\n", 1)[0].strip(b" \t\r")


def _interpreter(tree: Tree, script: str, first: bytes, folders: str) -> tuple[str, ...]:
    """The words that go in front of `script`."""
    path, _, rest = os.fsdecode(first).replace("\t", " ").partition(" ")
    rest = rest.strip()
    name = tree.name(script)
    if not path.startswith("/"):
        raise BuildError(
            f"{name}: `#!{path}` names no interpreter by its whole path",
            hint="write #!/usr/bin/env NAME or a path in the first line",
        )
    if "\0" in path + rest:
        raise BuildError(f"{name}: the first line has NUL bytes", hint="is it a script?")
    if path.rpartition("/")[2] == "env":
        return _through_env(tree, name, rest, folders)
    if tree.find(path) is None:
        raise BuildError(
            f"{name}: its interpreter {tree.name(path)} does not exist",
            hint="install it, or mend the first line of the script",
        )
    return (path, rest) if rest else (path,)


def _through_env(tree: Tree, name: str, rest: str, folders: str) -> tuple[str, ...]:
    try:
        words = shlex.split(rest[2:]) if rest.startswith("-S") else [rest]
    except ValueError as err:
        raise BuildError(f"{name}: `env {rest}`: {err}", hint="mend the first line") from err
    if not words or not words[0] or words[0].startswith("-") or "=" in words[0]:
        raise BuildError(
            f"{name}: `env {rest}` is more than a program's name",
            hint="write #!/usr/bin/env NAME; variables go into `env:` of a Capstanfile",
        )
    found = words[0] if words[0].startswith("/") else tree.search(words[0], folders)
    if found is None or tree.find(found) is None:
        raise BuildError(
            f"{name}: its interpreter {words[0]} is in no directory of {folders}",
            hint=f"install {words[0]}, or write its whole path in the first line",
        )
    return (found, *words[1:])
