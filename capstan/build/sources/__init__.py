# SPDX-License-Identifier: BSD-2-Clause
"""Where an image can come from besides programs of this machine: container images and packages.

    streams.py   compressed bytes -> plain bytes, counted and hashed
    tarball.py   plain bytes -> entries of a tar archive
    limits.py    how much an archive may ask for, and the error when it asks for more
    contents.py  the bytes of files as plain files named by their digest
    layers.py    one layer -> a list of entries, remembered by the layer's digest
    overlay.py   lists of entries -> a tree, with whiteouts and hard links
    oci.py       layouts and archives -> configuration and layers
    config.py    an image's configuration -> how the program is started; users
    container.py all of these together: a container image -> a tree
    dockerfile.py, debian.py  Dockerfiles through buildah, Debian packages

Rules: what is read is hostile. Nothing of an archive is ever a path of this machine: contents go to
files named by digest, everything else is a node of a tree in memory, and links are resolved in
that tree. Every amount that an archive decides is bounded by `Limits`.
"""
