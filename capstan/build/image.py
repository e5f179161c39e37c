# SPDX-License-Identifier: BSD-2-Clause
"""From a program, script or Capstanfile to an image in the store.

`collect` finds the files (`Plan`), `assemble` writes pool, header, manifest and kernel. The same
input gives the same bytes: the image's time is SOURCE_DATE_EPOCH, or else the newest time among
its files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from capstan import __version__, manifest, paths, ref, ui, upkeep
from capstan.build import base, elf
from capstan.build.check import warnings_of
from capstan.build.collect import BuildOptions, Plan, collect
from capstan.build.linktree import link_tree, linked_before
from capstan.build.reuse import BuildKey
from capstan.build.rootfs import unreadable
from capstan.errors import BuildError, CapstanError
from capstan.manifest import ImageManifest, KernelInfo, LinkedFile, PoolInfo, Step
from capstan.ref import ImageRef
from capstan.store import Header, Store, StoredImage

__all__ = ["BuildOptions", "Kernel", "Plan", "build_path", "collect", "resolve_or_build"]

Notify = Callable[[str], None]

WARNINGS = "warnings.json"
HOW, STEP_MAX = ("compressed", "linked"), 1000
RESERVED_POOLS = ("mirror", "raidz", "draid", "spare", "log")


@dataclass(frozen=True, slots=True)
class Kernel:
    """The guest kernel's bytes."""

    data: bytes
    sha256: str


def build_path(
    path: Path,
    args: Sequence[str] = (),
    options: BuildOptions | None = None,
    progress: ui.Advance | None = None,
    notify: Notify | None = None,
) -> StoredImage:
    """The image made from the program, script, directory or Capstanfile `path`.

    `args` become part of the image's command line. `notify` is called with each warning.

    Raises:
        CapstanError: it cannot be made; nothing was stored.
    """
    options = options or BuildOptions()
    talk = _Talk(notify)
    name = ref.parse(options.name) if options.name else None
    kernel = load_kernel()
    try:
        plan = collect(path, args, options)
    except OSError as err:
        raise unreadable(os.fsdecode(err.filename or path), err) from err
    for warning in plan.tree.warnings:
        talk.say(warning)
    default = ref.try_parse(plan.name) if plan.whole else ref.from_file_name(plan.name)
    default = default or ref.from_file_name(plan.name)
    title = str(name or default)
    if name is None and not options.unnamed:
        name = default
    key = BuildKey.of(plan, [kernel.sha256, title, options.compress, options.link])
    store = Store()
    hit = key.find(store, name) if options.reuse else None
    if hit is not None:
        if not options.unnamed:  # `capstan run` said it when it built the image
            talk.repeat(hit)
        return hit
    try:
        return _make(plan, kernel, options, store, talk, (title, name, key, progress))
    except OSError as err:
        raise _write_error(err, store) from err


def _make(
    plan: Plan,
    kernel: Kernel,
    options: BuildOptions,
    store: Store,
    talk: _Talk,
    more: tuple[str, ImageRef | None, BuildKey, ui.Advance | None],
) -> StoredImage:
    """The new image in the store."""
    title, name, key, progress = more
    notes = {base.INDEX: base.dump(plan.tree)}
    if not plan.whole:
        for line in warnings_of(plan):
            talk.warn(line)

    def write(out: BinaryIO) -> ImageManifest:
        linked = linked_before(plan.tree)
        if options.link:
            cache = store.link_cache if options.reuse else None
            linked = link_tree(plan.tree, cache, plan.nolink, talk.warn)
            upkeep.trim_links(store.link_cache)
        notes[WARNINGS] = talk.to_json()
        return assemble(
            plan,
            kernel,
            out,
            title=title,
            linked=linked,
            compress=options.compress,
            link=options.link,
            progress=progress,
        )

    return store.put(write, name=name, key=key.to_store(store), notes=notes)


class _Talk:
    """What a build says; warnings are kept beside the image, for the next time it is taken."""

    def __init__(self, notify: Notify | None) -> None:
        self._notify = notify
        self._kept: list[str] = []

    def say(self, line: str) -> None:
        """Tell the user."""
        if self._notify is not None:
            self._notify(line)

    def warn(self, line: str) -> None:
        """Tell the user, and again when the image is reused."""
        self._kept.append(line)
        self.say(line)

    def to_json(self) -> bytes:
        """What was warned of."""
        return json.dumps(self._kept).encode()

    def repeat(self, image: StoredImage) -> None:
        """Tell the user what was warned of when `image` was built."""
        with contextlib.suppress(OSError, ValueError):
            for line in json.loads((image.disk.parent / WARNINGS).read_bytes()):
                self.say(str(line))


def resolve_or_build(
    target: str,
    options: BuildOptions | None = None,
    progress: ui.Advance | None = None,
    notify: Notify | None = None,
) -> StoredImage:
    """The image called `target`, or the one made from the file or directory `target`.

    Without a "/" a name of the store comes first. A build is reused while its files are the same.

    Raises:
        CapstanError: neither, or the build failed.
    """
    options = dataclasses.replace(options or BuildOptions(), unnamed=True)
    path = Path(target)
    if options.source is not None:
        return build_path(path, (), options, progress, notify)
    if "/" not in target and options.capstanfile is None:
        image = Store().find(target, ids=not path.exists())
        if image is not None:
            if path.exists() and notify is not None:
                notify(f"{target} is also a file here: taking the image, ./{target} means the file")
            return image
        if not path.exists():
            raise CapstanError(
                f"there is no image and no file called {target}",
                hint="`capstan images` lists the images; a program is named by its path",
            )
    return build_path(path, (), options, progress, notify)


# --- the image ---------------------------------------------------------------------------------


def load_kernel() -> Kernel:
    """The guest kernel for new images.

    Raises:
        BuildError: there is none, or it cannot be one.
    """
    path = paths.guest_kernel()
    try:
        data = path.read_bytes()
    except OSError as err:
        raise BuildError(
            f"guest kernel {path}: {os.strerror(err.errno or 0)}", hint="check CAPSTAN_KERNEL"
        ) from err
    if not elf.is_elf(data) or len(data) > manifest.KERNEL_MAX:
        limit = manifest.KERNEL_MAX >> 20
        raise BuildError(
            f"guest kernel {path}: not an ELF file of at most {limit} MiB",
            hint="use the stripped guest/build/kernel.elf",
        )
    return Kernel(data, hashlib.sha256(data).hexdigest())


def assemble(
    plan: Plan,
    kernel: Kernel,
    out: BinaryIO,
    *,
    title: str,
    linked: tuple[LinkedFile, ...] = (),
    compress: bool = True,
    link: bool = True,
    progress: ui.Advance | None = None,
) -> ImageManifest:
    """Write the whole image to `out`; the manifest inside it.

    `link` says for the history whether files were to be linked.
    """
    from capstan.build.zfs.writer import write_pool

    pool_name = pool_name_for(title.partition(":")[0])
    advance = None
    if progress is not None:
        total = sum(facts.size for facts in plan.tree.facts.values())
        advance = ui.Counter(total, progress).advance
    pool = write_pool(
        plan.tree.root,
        out,
        name=pool_name,
        created=plan.created,
        compress=compress,
        progress=advance,
    )
    description = ImageManifest(
        name=title,
        created=plan.created,
        config=plan.config,
        kernel=KernelInfo(kernel.sha256, len(kernel.data)),
        pool=PoolInfo(pool_name, pool.guid, pool.size),
        files=pool.files,
        linked=linked,
        history=(*plan.history, *_steps(plan, kernel, linked, (compress, link))),
    )
    text = description.to_json()
    if len(text) > manifest.MANIFEST_MAX:
        raise BuildError(f"the manifest takes {len(text)} bytes, at most {manifest.MANIFEST_MAX}")
    header = Header(
        len(text),
        len(kernel.data),
        hashlib.sha256(text).digest(),
        hashlib.sha256(kernel.data).digest(),
    )
    for offset, data in (
        (manifest.HEADER_OFFSET, header.pack()),
        (manifest.MANIFEST_OFFSET, text),
        (manifest.KERNEL_OFFSET, kernel.data),
    ):
        out.seek(offset)
        out.write(data)
    return description


def _steps(
    plan: Plan, kernel: Kernel, linked: Sequence[LinkedFile], how: tuple[bool, bool]
) -> Sequence[Step]:
    """What the build itself added to the history; `how`: compressed, linked."""
    sites, left = sum(row.sites for row in linked), sum(row.left for row in linked)
    words = [f"capstan {__version__}"]
    words += [word if yes else f"not {word}" for yes, word in zip(how, HOW, strict=True)]
    words += [f"nolink {' '.join(plan.nolink)}"] if plan.nolink else []
    steps = [Step("link", f"{sites} system calls are jumps, {left} trap", len(linked))]
    return (
        *(steps if linked else ()),
        Step("kernel", kernel.sha256[:12], 1, len(kernel.data)),
        Step("build", ", ".join(words)[:STEP_MAX]),
    )


def pool_name_for(name: str) -> str:
    """A legal pool name (`man 8 zpool-create`) close to `name`."""
    plain = ref.from_file_name(name).name
    disk_like = plain[0] == "c" and plain[1:2].isdigit()
    if not plain[0].isalpha() or disk_like or plain.startswith(RESERVED_POOLS):
        return f"capstan-{plain}"
    return plain


def _write_error(err: OSError, store: Store) -> BuildError:
    reason = os.strerror(err.errno) if err.errno else str(err)
    where = err.filename if err.filename is not None else store.root
    return BuildError(
        f"{os.fsdecode(where)}: {reason}",
        hint=f"the image was to be written below {store.root} (CAPSTAN_ROOT)",
    )
