# SPDX-License-Identifier: BSD-2-Clause
"""`python -m capstan`."""

from capstan.cli.main import main

if __name__ == "__main__":
    main()
