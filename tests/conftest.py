# SPDX-License-Identifier: BSD-2-Clause
"""For all tests: the same signals however they were started."""

import signal

# A shell starts background jobs with SIGINT ignored, and our children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
