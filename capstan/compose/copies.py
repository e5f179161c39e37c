# SPDX-License-Identifier: BSD-2-Clause
"""`volumes`, `configs` and `secrets`: what is of the host is copied into the image (`mounts`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from capstan.compose.model import Mount

if TYPE_CHECKING:
    from capstan.compose.read import Context
    from capstan.compose.tree import Node

SECRETS = "/run/secrets/"


def volumes(node: Node, context: Context) -> dict[str, Any]:
    """What is of the host is copied; there are no volumes yet, which is warned about."""
    mounts = []
    for item in node.items("a list of volumes"):
        source, target, kind, is_read_only = _volume(item)
        _check_target(item, target)
        if kind == "bind":
            mounts.append(_mount(item, source, target, context))
            if not is_read_only:
                context.warn(item, f"{source} is copied: what is written to {target} stays inside")
        elif kind != "tmpfs":
            what = source or "the volume"
            context.warn(item, f"{what}: no volumes in this version: {target} is lost at the end")
    return {"mounts": tuple(mounts)}


def _check_target(node: Node, target: str) -> None:
    if not target.startswith("/") or ".." in target.split("/") or not target.strip("/"):
        raise node.complain(f"{target!r} is not an absolute path in the machine")


def _mount(node: Node, source: str, target: str, context: Context) -> Mount:
    path = context.folder / Path(source).expanduser()
    if not path.is_file() and not path.is_dir():
        raise node.complain(
            f"{source} is not a file or directory of the host",
            hint="sockets and devices of the host cannot be shared with a machine"
            if path.exists()
            else "create it, or leave the line out",
        )
    return Mount(path, target)


def _volume(node: Node) -> tuple[str, str, str, bool]:
    """Source, target, kind, and whether it is read-only."""
    if isinstance(node.value, dict):
        known = {"type", "source", "target", "read_only", "bind", "volume", "tmpfs", "consistency"}
        if wrong := set(node.value) - known:
            raise node.value[min(wrong)].complain("unknown key", hint=", ".join(sorted(known)))
        texts = {k: str(v.value) for k, v in node.value.items() if isinstance(v.value, str)}
        if "target" not in texts or texts.get("type") not in ("bind", "volume", "tmpfs"):
            raise node.error("type (bind, volume or tmpfs), source and target")
        is_read_only = "read_only" in node.value and node.value["read_only"].flag()
        return texts.get("source", ""), texts["target"], texts["type"], is_read_only
    text = node.text("SOURCE:TARGET")
    source, colon, rest = text.partition(":")
    if not colon:
        return "", text, "volume", False
    target, _, flags = rest.partition(":")
    is_path = source.startswith((".", "/", "~"))
    return source, target, "bind" if is_path else "volume", "ro" in flags.split(",")


def configs(node: Node, context: Context) -> dict[str, Any]:
    """Files at /NAME, or where `target` says."""
    return _shared(node, context, "configs", "/")


def secrets(node: Node, context: Context) -> dict[str, Any]:
    """Files in /run/secrets."""
    return _shared(node, context, "secrets", SECRETS)


def _shared(node: Node, context: Context, kind: str, folder: str) -> dict[str, Any]:
    mounts = []
    for item in node.items(f"a list of {kind}"):
        given = item.pairs() if isinstance(item.value, dict) else {"source": item}
        for key, value in given.items():
            if key in ("uid", "gid", "mode"):
                context.warn(value, "not set")
            elif key not in ("source", "target"):
                raise value.complain("unknown key", hint="source, target")
        if "source" not in given:
            raise item.complain("the key source is missing")
        name = given["source"].text()
        target = given["target"].text() if "target" in given else name
        if not target.startswith("/"):
            target = folder + target
        _check_target(item, target)
        if name not in context.shared.get(kind, {}):
            raise item.complain(f"there is no {name}", hint=f"add it to `{kind}:`")
        mounts.append(_defined(context.shared[kind][name], target, context))
    return {"mounts": tuple(mounts)}


def _defined(node: Node, target: str, context: Context) -> Mount:
    """What an entry of the top-level `configs:` or `secrets:` stands for."""
    given = node.pairs()
    for key, value in given.items():
        if key not in ("file", "content", "environment", "name") and not key.startswith("x-"):
            raise value.complain("not supported", hint="file, content, environment")
    if len({"file", "content", "environment"} & set(given)) != 1:
        raise node.complain("expected one of file, content and environment")
    if "file" in given:
        return _mount(given["file"], given["file"].text(), target, context)
    if "content" in given:
        return Mount(None, target, given["content"].text())
    name = given["environment"].text()
    if name not in context.environ:
        raise given["environment"].complain(f"the variable {name} is not set")
    return Mount(None, target, context.environ[name], name)
