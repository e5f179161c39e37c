# SPDX-License-Identifier: BSD-2-Clause
"""`capstan login` and `logout`."""

from __future__ import annotations

from collections.abc import Sequence

from capstan.errors import RepoError, UsageError
from capstan.repo.answers import Denied, NotFound
from capstan.repo.auth import TokenAuth
from capstan.repo.credentials import Credentials, check_user
from capstan.repo.http import Request
from capstan.repo.limits import ERROR_MAX
from capstan.repo.names import Reach, connect


def login(host: str, user: str, password: str, reach: Reach) -> str:
    """Keep name and password once the registry takes them; gives the place they are kept in.

    Raises:
        RepoError: the registry refuses them, or they cannot be kept; nothing was kept.
    """
    known = Credentials(check_user(user), password)
    if not password:
        raise UsageError("the password is empty", hint="check what is on stdin")
    http = connect(host, reach)
    http.auth = TokenAuth(http, lambda: known)
    try:
        http.fetch(Request("GET", "/v2/", "login"), ERROR_MAX)
    except Denied as err:
        raise Denied(
            f"{host}: {user} and this password are refused", hint="check both; nothing was kept"
        ) from err
    except NotFound as err:
        raise RepoError(
            f"{host}: there is no registry (no /v2/)", hint="check the host and the port"
        ) from err
    finally:
        http.close()
    return reach.keyring.store(host, known)


def logout(host: str, reach: Reach) -> Sequence[str]:
    """Forget what is kept for `host`; lines that say what was done."""
    gone = [f"removed login for {host} from {where}" for where in reach.keyring.erase(host)]
    other = reach.keyring.others(host)
    if other is not None:
        gone.append(f"{other} still has a login for {host}: `podman logout {host}` removes it")
    return gone or [f"not logged in to {host}"]
