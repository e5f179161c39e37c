# SPDX-License-Identifier: BSD-2-Clause
"""From files to an image: what a program needs, as a tree, as a pool."""
