# SPDX-License-Identifier: BSD-2-Clause
"""When an ended instance is started again."""

from __future__ import annotations

import pytest

from capstan.errors import UsageError
from capstan.run.restart import Backoff, RestartPolicy, parse


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", RestartPolicy()),
        ("always", RestartPolicy("always")),
        ("unless-stopped", RestartPolicy("always")),
        ("on-failure", RestartPolicy("on-failure")),
        ("on-failure:5", RestartPolicy("on-failure", 5)),
    ],
)
def test_parse(text: str, policy: RestartPolicy) -> None:
    assert parse(text) == policy
    assert parse(str(policy)) == policy


@pytest.mark.parametrize("text", ["", "yes", "always:3", "no:1", "on-failure:", "on-failure:-1"])
def test_no_policy(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_pauses_double_up_to_a_minute() -> None:
    backoff = Backoff(parse("always"))
    pauses = [backoff.after(0, 1.0) for _ in range(12)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8] and pauses[-1] == 60.0


def test_a_long_run_starts_over() -> None:
    backoff = Backoff(parse("on-failure:2"))
    assert [backoff.after(1, 1.0) for _ in range(3)] == [0.1, 0.2, None]
    backoff = Backoff(parse("on-failure:2"))
    assert [backoff.after(1, 11.0) for _ in range(5)] == [0.1] * 5


def test_what_is_not_restarted() -> None:
    assert Backoff(parse("no")).after(1, 1.0) is None
    assert Backoff(parse("on-failure")).after(0, 1.0) is None
    assert Backoff(parse("always")).after(0, 1.0) == 0.1
