# SPDX-License-Identifier: BSD-2-Clause
"""Several machines together: a Compose-format file in, running instances out.

    tree         YAML text -> nodes with places          interpolate  ${VAR:-default}, .env files
    extends      a file as nodes                         merge        several files into one
    model        what a file says, checked               project      files -> model
    read, copies, values, healthcheck, keys              nodes -> model, key by key
    plan         model -> names, labels, runs            state        networks and addresses, kept
    health, wire is a service ready?                     mounts       files of the host in an image
    members      the instances of a project              logs         what they write
    engine       up, down, ...                           show         the model as text again

Above: cli/. Below: build/, run/, repo/ and the core. Nothing here prints or imports click.
"""
