# SPDX-License-Identifier: BSD-2-Clause
"""From what the user typed to an image in the store: what is there, else a build, else a pull."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capstan import ui
from capstan.errors import ImageError, UsageError

if TYPE_CHECKING:
    from capstan.build.collect import BuildOptions
    from capstan.ref import ImageRef
    from capstan.repo.names import Reach
    from capstan.repo.pull import Pulled
    from capstan.repo.registry import Repository
    from capstan.store import StoredImage

POLICIES = ("missing", "always", "never")


def resolve(name: str, policy: str = "missing", *, quiet: bool = False) -> StoredImage:
    """The image called `name`, pulled when `policy` (one of `POLICIES`) says so.

    Raises:
        CapstanError: it is neither here nor to be had.
    """
    from capstan import ref
    from capstan.store import Store

    here = Store().find(name) if policy != "always" else None
    if here is not None:
        return here
    parsed = ref.parse(name)
    if policy == "never":
        raise ImageError(
            f"there is no image {parsed} here, and it is not to be pulled",
            hint=f"`capstan pull {name}`, or without --pull never",
        )
    from capstan.cli.reach import reach

    how = reach()
    if not parsed.host and not how.registry:
        raise UsageError(
            f"there is no image {parsed} here and no registry to look in",
            hint="set one (`capstan config set registry HOST[:PORT][/NAMESPACE]`) or name it "
            f"(HOST/{name}); `capstan build -t {name} PATH` makes the image instead",
        )
    return pull_image(parsed, how, quiet=quiet).image


@dataclass(frozen=True, slots=True)
class Target:
    """What `capstan run` was given."""

    text: str
    policy: str = "missing"  # one of POLICIES
    is_folder: bool = False  # there is a Capstanfile for it


def resolve_target(
    target: Target, options: Callable[[], BuildOptions], notify: Callable[[str], None]
) -> StoredImage:
    """The image that `capstan run TARGET` means: a name, or something to build one of.

    A name of the store comes first unless it has a "/"; then a file or directory; then a registry.
    Nothing of the builder is loaded, and `options` is not called, unless there is one to build.

    Raises:
        CapstanError: none of them.
    """
    from capstan import ref
    from capstan.cli.sources import looks_like_source
    from capstan.store import Store

    text = target.text
    is_path = text.startswith((".", "/", "~")) or target.is_folder or looks_like_source(text)
    is_path = is_path or Path(text).exists()
    is_name = ref.try_parse(text) is not None
    may_be_here = is_name and "/" not in text and not target.is_folder
    here = Store().find(text) if may_be_here else None
    if (is_path and here is None) or not is_name:
        return _built(text, options(), notify)
    if Path(text).exists():
        notify(f"{text} is also a file here: taking the image, ./{text} means the file")
    return here if here is not None and target.policy != "always" else resolve(text, target.policy)


def _built(text: str, options: BuildOptions, notify: Callable[[str], None]) -> StoredImage:
    from capstan.build.image import resolve_or_build
    from capstan.cli.sources import opened, wanted_by

    with opened(wanted_by(text), options) as chosen, ui.progress("Writing image") as bar:
        return resolve_or_build(text, chosen, bar, notify)


def pull_image(
    name: ImageRef, how: Reach, keys: Sequence[Path] | None = None, *, quiet: bool = False
) -> Pulled:
    """Pull an image; a progress bar is shown on a terminal.

    It has to be signed when the setting trust says so, or when there are `keys` (empty: those of
    the setting).
    """
    from capstan import settings
    from capstan.repo.names import locate
    from capstan.repo.pull import PullRequest, pull
    from capstan.store import Store

    place = locate(name, how)
    verify = _verifier(settings.get("trust"), keys)
    with ui.progress(f"Pulling {name}", quiet=quiet) as bar:
        return pull(PullRequest(place, name, how, verify), Store(), bar)


def _verifier(
    policy: str | None, keys: Sequence[Path] | None
) -> Callable[[Repository, str], None] | None:
    """What refuses a manifest that is not signed as it must be."""
    if policy is None and keys is None:
        return None
    from capstan.repo import sign

    rules = sign.parse_policy(policy or "")
    return lambda source, digest: sign.check(source, digest, rules, keys)
