# SPDX-License-Identifier: BSD-2-Clause
"""For all tests: the same signals and settings however, and by whom, they were started."""

import os
import signal

# A shell starts background jobs with SIGINT ignored, and our children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["CAPSTAN_CONFIG"] = os.devnull
