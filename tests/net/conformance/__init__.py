# SPDX-License-Identifier: BSD-2-Clause
"""The guest's network stack, asked frame by frame whether it keeps to the RFCs; see __main__.py."""
