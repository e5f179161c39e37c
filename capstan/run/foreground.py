# SPDX-License-Identifier: BSD-2-Clause
"""A run in front of the user as an instance, at no cost to its start.

The instance is made when QEMU runs and the guest boots: the time in which we would wait. Little is
imported before. A name that is taken already is refused before anything is started.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from capstan.errors import CapstanError
from capstan.run.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from capstan.run.instance_keeper import InstanceKeeper
    from capstan.run.machine import Machine
    from capstan.run.request import InstanceRequest


class ForegroundKeeper(Keeper):
    """Becomes the keeper of an instance in the store `root` once the machine is launched."""

    def __init__(self, root: Path, request: InstanceRequest, say: Callable[[str], None]) -> None:
        self._root, self._request, self._say = root, request, say
        self._stack = contextlib.ExitStack()
        self._inner: InstanceKeeper | None = None
        if request.name is not None and (root / "instances" / "names" / request.name).is_symlink():
            self._check_name(request.name)

    def launched(self, machine: Machine, pid: int) -> None:
        """QEMU runs: make the instance."""
        from capstan.run.instances import Instances

        try:
            instances = Instances(self._root)
            self._inner = self._stack.enter_context(instances.foreground(self._request))
            self._inner.launched(machine, pid)
        except (OSError, CapstanError) as err:
            if isinstance(err, CapstanError) and self._request.name is not None:
                raise
            self._say(f"this run is not listed by `capstan ps`: {err}")

    def ready(self) -> None:
        """The program is about to run."""
        if self._inner is not None:
            self._inner.ready()

    def threads(self, line: str) -> None:
        """The guest's threads."""
        if self._inner is not None:
            self._inner.threads(line)

    def wants(self) -> Mapping[int, int]:
        """The control socket and its connections."""
        return self._inner.wants() if self._inner is not None else {}

    def serve(self, ready: Mapping[int, int]) -> None:
        """Answer requests."""
        if self._inner is not None:
            self._inner.serve(ready)

    def close(self, status: int) -> None:
        """The run has ended: so has the instance."""
        if self._inner is not None:
            self._inner.status = status
        self._stack.close()

    def _check_name(self, name: str) -> None:
        from capstan.run import names
        from capstan.run.instances import Instances

        instances = Instances(self._root)
        if instances.find(name) is not None:
            for line in instances.repair():  # perhaps it is a run that was killed
                self._say(line)
        if instances.find(name) is not None:
            raise names.taken(name)
