# SPDX-License-Identifier: BSD-2-Clause
"""Images in registries: the OCI Distribution protocol, our format in it, signatures.

    http     requests to one registry: TLS, deadlines, retries, redirects
    auth     tokens and passwords; credentials: where passwords are kept
    registry blobs and manifests
    blobs    resumable transfers of blobs
    frames   an image as pieces that versions share; artifact: the document about them
    push, pull, index, fetch, sign, trust: what the commands do

A registry is not trusted: what it sends is bounded, checked against a digest, and only then used.
"""
