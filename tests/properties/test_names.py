# SPDX-License-Identifier: BSD-2-Clause
"""Names of images: what is written comes back, and no two share a place in the store."""

from __future__ import annotations

import os
import string
import tempfile
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from capstan import ref, storenames
from capstan.ref import ImageRef
from capstan.store import Store
from capstan.storenames import Names
from tests.lib import stored

WORD = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=6)
PART = st.builds(
    lambda words, marks: "".join(w + m for w, m in zip(words, [*marks, ""], strict=False)),
    st.lists(WORD, min_size=3, max_size=3),
    st.lists(st.sampled_from([".", "_", "__", "-", "---"]), min_size=2, max_size=2),
)
PATH = st.lists(st.one_of(WORD, PART), min_size=1, max_size=4).map("/".join)
PORT = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
HOST = st.one_of(
    st.just(""),
    st.builds(
        "{}{}".format, st.sampled_from(["localhost", "h.example", "Re-G.io", "10.0.0.1"]), PORT
    ),
    st.builds("{}:{}".format, WORD, st.integers(1, 65535)),
    st.builds("{}{}".format, st.sampled_from(["[::1]", "[2001:db8::7]"]), PORT),
)
TAG = st.one_of(
    st.just("latest"), st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=20)
)
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


def is_written(made: ImageRef) -> bool:
    """Whether the name says what it means: its first part must not look like a host."""
    first, slash, _ = made.name.partition("/")
    return bool(made.host) or not slash or ("." not in first and first != "localhost")


REFS = st.one_of(
    st.builds(ImageRef, PATH, TAG, HOST),
    st.builds(ImageRef, PATH, TAG, HOST, DIGEST),
    st.builds(ImageRef, PATH, st.just(""), HOST, DIGEST),
).filter(is_written)
NASTY = st.one_of(
    st.text(max_size=40),
    st.text("ab/:@.-_+ [] \0\n..%", max_size=30),
    st.lists(st.sampled_from(["..", "a", "/", ":", "@", "sha256:", "0" * 64, "+", "."])).map(
        "".join
    ),
)


@given(REFS)
def test_what_is_written_comes_back(made: ImageRef) -> None:
    assert ref.parse(str(made)) == made


@given(NASTY)
def test_any_text_is_a_name_or_none(text: str) -> None:
    found = ref.try_parse(text)
    if found is not None:
        assert ref.parse(str(found)) == found
        assert not {"", ".", ".."} & set(found.name.split("/"))


@given(PATH, TAG)
def test_what_is_left_out_is_latest_and_here(path: str, tag: str) -> None:
    assume("." not in path.split("/", maxsplit=1)[0] and not path.startswith("localhost/"))
    assert ref.parse(path) == ImageRef(path)
    assert ref.parse(f"{path}:{tag}") == ImageRef(path, tag)


@given(REFS, REFS)
def test_no_two_names_share_a_place(one: ImageRef, two: ImageRef) -> None:
    place = Names(Path("/s"))
    same = (one.repository, one.tag or one.digest) == (two.repository, two.tag or two.digest)
    assert (place.link(one) == place.link(two)) == same
    for name in (one, two):
        link = place.link(name)
        assert link.parent.parent == place.folder and ".." not in link.parts
        assert all(len(os.fsencode(part)) <= 255 for part in link.parts)
        read = storenames.read_link(link)
        assert read is not None and place.link(read) == link


@given(
    st.lists(REFS, min_size=1, max_size=4, unique_by=lambda r: (r.repository, r.tag or r.digest))
)
def test_the_store_finds_what_it_was_given(names: list[ImageRef]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Store(Path(folder))
        image = stored.put(place, None, key="k")
        for name in names:
            place.label(image, name)
        for name in names:
            assert place.open(str(name)).digest == image.digest
            if name.digest:
                assert place.open(f"{name.repository}@{name.digest}").digest == image.digest
                assert f"{name.repository}@{name.digest}" in place.repo_digests(image)
        assert len(place.list()) == len(names) == len(place.names(image.digest))
        for number, name in enumerate(names, 1):
            removed = place.remove(str(name))
            assert len(removed.names) == 1 and (removed.digest is None) == (number < len(names))
        assert place.digests() == [] and place.list() == []


@given(st.text("0123456789abcdef", min_size=1, max_size=64), st.integers(0, 64))
def test_beginnings_of_an_id(text: str, length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Store(Path(folder))
        image = stored.put(place, "n", text.encode())
        part = image.digest[:length]
        assert (place.find(part) is not None) == (length >= 4)
