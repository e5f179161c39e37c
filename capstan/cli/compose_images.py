# SPDX-License-Identifier: BSD-2-Clause
"""Where the images of a project's services come from: the store, a build, a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from capstan import ui
from capstan.build.collect import BuildOptions
from capstan.compose import plan
from capstan.errors import UsageError
from capstan.store import Store, StoredImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capstan.cli.sources import Wanted
    from capstan.compose.model import Build, Project, Service


class ServiceImages:
    """Finds, builds and pulls. `build`: None as needed, True always, False never."""

    def __init__(
        self, *, build: bool | None = None, pull: str | None = None, quiet: bool = False
    ) -> None:
        self._build = build
        self._pull = pull
        self._quiet = quiet

    def find(self, project: Project, service: Service) -> StoredImage:
        """The image of a service, with its files of the host in it.

        Raises:
            CapstanError: it is neither here nor to be made or had.
        """
        from capstan.compose.mounts import with_mounts
        from capstan.compose.state import Keeper

        image = self._bare(project, service)
        return with_mounts(image, service, Keeper(Store().root, project.name).path, _warn)

    def _bare(self, project: Project, service: Service) -> StoredImage:
        """The image that `image:` or `build:` mean.

        Raises:
            CapstanError: it is neither here nor to be made or had.
        """
        name = plan.image_name(project.name, service)
        if service.build is None:
            return self.pull(project, service)
        wants_build = self._build or service.pull_policy == "build"
        found = None if wants_build else _in_store(name)
        if found is not None:
            return found
        if self._build is False:
            raise UsageError(
                f"service {service.name}: there is no image {name}, and it is not to be built",
                hint="leave out --no-build, or `capstan compose build`",
            )
        return self.build(project, service)

    def pull(self, project: Project, service: Service) -> StoredImage:
        """The image that `image:` names, pulled as the policy says."""
        from capstan.cli.resolve import resolve
        from capstan.cli.sources import looks_like_source

        name = plan.image_name(project.name, service)
        if looks_like_source(name):
            return _from_source(name)
        policy = self._pull or service.pull_policy
        policy = {"if_not_present": "missing", "build": "missing"}.get(policy, policy)
        return resolve(name, policy, quiet=self._quiet)

    def build(self, project: Project, service: Service, more: Sequence[str] = ()) -> StoredImage:
        """The image that `build:` makes; `more`: arguments of the build, NAME=VALUE."""
        from capstan.build.image import build_path
        from capstan.cli.sources import opened

        assert service.build is not None
        given = service.build
        name = plan.image_name(project.name, service)
        options = BuildOptions(name, capstanfile=_file(given, service))
        if not self._quiet:
            ui.tell(f"{service.name}: building {name} from {given.context}")
        wanted = _wanted(given, service, more)
        progress = ui.progress("Writing image", quiet=self._quiet)
        with opened(wanted, options) as ready, progress as bar:
            return build_path(given.context, (), ready, bar, _warn)


def _in_store(name: str) -> StoredImage | None:
    return Store().find(name)


def _file(given: Build, service: Service) -> Path | None:
    if given.file is None:
        return None
    path = given.context / given.file
    if not path.is_file():
        raise UsageError(f"service {service.name}: build.dockerfile: {path} is not a file")
    return path


def _wanted(given: Build, service: Service, more: Sequence[str]) -> Wanted:
    """What sources need to know; only a Dockerfile has arguments and stages."""
    import os

    from capstan.cli.sources import Wanted

    values = {k: os.environ.get(k) if v is None else v for k, v in given.args.items()}
    args = tuple(f"{k}={v}" for k, v in values.items() if v is not None)
    return Wanted(given.context, None, (*args, *more), given.target)


def _from_source(name: str) -> StoredImage:
    """A container image (docker://...), converted; the store keeps it under what it is made of."""
    from capstan.build.image import build_path
    from capstan.cli.sources import Wanted, opened

    with opened(Wanted(source=name), BuildOptions(reuse=True)) as options:
        return build_path(Path(), (), options, None, _warn)


def _warn(text: str) -> None:
    ui.tell(f"warning: {text}")
