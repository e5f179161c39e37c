# SPDX-License-Identifier: BSD-2-Clause
"""How hard to try: CAPSTAN_EXAMPLES cases of each property (the gate sets it)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gate",
    max_examples=int(os.environ.get("CAPSTAN_EXAMPLES", "30")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize="CAPSTAN_EXAMPLES" not in os.environ,
)
settings.load_profile("gate")
