# SPDX-License-Identifier: BSD-2-Clause
"""Several machines together: a Compose-format file in, running instances out.

    tree         YAML text -> nodes with places          interpolate  ${VAR:-default}, .env files
    merge        several files into one, `extends`       model        what a file says, checked
    read         nodes -> model                          project      files -> model
    plan         model -> networks, addresses, names     state        what is kept of a project
    health, wire is a service ready?                     members      its instances
    engine       up, down, ...                           logs         what they write

Above: cli/. Below: build/, run/, repo/ and the core. Nothing here prints or imports click.
"""
