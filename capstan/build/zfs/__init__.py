# SPDX-License-Identifier: BSD-2-Clause
"""Writes a directory tree as a ZFS pool (version 5000, lz4_compress), without root rights."""
