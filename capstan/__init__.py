# SPDX-License-Identifier: BSD-2-Clause
"""Capstan: an unmodified Linux program as a small virtual machine."""

__version__ = "0.1.0"
