# SPDX-License-Identifier: BSD-2-Clause
"""Hatchling's hook: puts the guest kernel, libcapstan and the system-call table into the package.

Acts for wheels, editable installs included. The Makefile is the only place with compiler flags;
this file calls it, copies the result and tags the wheel for its platform. `CC` and
`SOURCE_DATE_EPOCH` reach make through the environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TAG = "py3-none-linux_x86_64"


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs `make -C guest` before a wheel is put together."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the kernel and describe the wheel; `version` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        compiler = os.environ.get("CC", "gcc").split()[0]
        for tool in ("make", compiler):
            if shutil.which(tool) is None:
                raise SystemExit(
                    f"capstan: {tool} is needed to build the guest kernel; "
                    "install it (Debian: apt-get install gcc make) and try again"
                )
        jobs = f"-j{os.cpu_count() or 1}"
        done = subprocess.run(["make", "-C", root / "guest", jobs], check=False)
        if done.returncode != 0:
            raise SystemExit("capstan: `make -C guest` failed; its messages are above")
        kernel = root / "guest" / "build" / "kernel.elf"
        if not kernel.is_file():
            raise SystemExit("capstan: `make -C guest` left no guest/build/kernel.elf")
        shutil.copyfile(kernel, root / "capstan" / "kernel.elf")
        sdk = root / "capstan" / "data" / "sdk"
        shutil.rmtree(sdk, ignore_errors=True)
        shutil.copytree(root / "guest" / "build" / "sdk", sdk)
        tool = root / "guest" / "tools" / "syscalls.py"
        if subprocess.run([sys.executable, tool], check=False).returncode != 0:
            raise SystemExit("capstan: the table of system calls is damaged; see above")
        build_data["pure_python"] = False
        build_data["tag"] = TAG
