# SPDX-License-Identifier: BSD-2-Clause
"""The command line: thin commands over `build`, `run` and `repo`."""
