# SPDX-License-Identifier: BSD-2-Clause
"""For all tests: the same signals and settings however, and by whom, they were started."""

import os
import signal
from collections.abc import Iterator

import pytest

from capstan import ui

# A shell starts background jobs with SIGINT ignored, and our children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["CAPSTAN_CONFIG"] = os.devnull


@pytest.fixture(autouse=True)
def normal_talk() -> Iterator[None]:
    """What a test said with -q or -v is not said after it."""
    yield
    ui.set_level(ui.Level.NORMAL)
