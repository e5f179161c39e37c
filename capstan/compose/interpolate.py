# SPDX-License-Identifier: BSD-2-Clause
"""Variables in a Compose file, and the `.env` files they come from.

`$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`, `${NAME?message}`,
`${NAME:+instead}`, `${NAME+instead}`; with the colon an empty value counts as none. What stands
for something else may have variables itself. `$$` is one dollar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*(?:[=:](.*))?$", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}
MAX_DEPTH = 20


class BadText(ValueError):
    """What is wrong with a text; the caller knows its place."""


def interpolate(
    text: str, variables: Mapping[str, str], missing: Callable[[str], None], depth: int = 0
) -> str:
    """`text` with its variables put in; `missing` is told the names that have no value.

    Raises:
        BadText: a `$` that begins no variable, or a `?` whose variable has no value.
    """
    if depth > MAX_DEPTH:
        raise BadText("variables nested too deeply")
    out = ""
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        out += text[at:dollar]
        after = text[dollar + 1 : dollar + 2]
        if after == "$":
            out += "$"
            at = dollar + 2
        elif after == "{":
            end = _closing(text, dollar + 2)
            out += _braced(text[dollar + 2 : end], variables, missing, depth)
            at = end + 1
        elif found := NAME.match(text, dollar + 1):
            out += _value(found[0], variables, missing)
            at = found.end()
        else:
            raise BadText(f"{text!r}: `$` without a name; write `$$` for a dollar")
    return out + text[at:]


def _closing(text: str, at: int) -> int:
    depth = 1
    for index in range(at, len(text)):
        if text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
        elif text[index] == "{" and text[index - 1] == "$":
            depth += 1
    raise BadText(f"{text!r}: `${{` without `}}`")


def _value(name: str, variables: Mapping[str, str], missing: Callable[[str], None]) -> str:
    if name not in variables:
        missing(name)
        return ""
    return variables[name]


def _braced(
    inside: str, variables: Mapping[str, str], missing: Callable[[str], None], depth: int
) -> str:
    found = re.fullmatch(rf"({NAME.pattern})(?:(:?)([-?+])(.*))?", inside, re.DOTALL)
    if not found:
        raise BadText(f"${{{inside}}}: expected ${{NAME}}, ${{NAME:-default}}, :? or :+")
    name, colon, kind, other = found.groups()
    if kind is None:
        return _value(name, variables, missing)
    given = variables.get(name)
    is_set = bool(given) if colon else given is not None
    if kind == "-" and is_set:
        return given or ""
    if kind == "+" and not is_set:
        return ""
    if kind == "?" and is_set:
        return given or ""
    instead = interpolate(other, variables, missing, depth + 1)
    if kind == "?":
        raise BadText(f"{name}: {instead or 'required, but it has no value'}")
    return instead


def parse_env(text: str, variables: Mapping[str, str]) -> dict[str, str | None]:
    """The variables of a `.env` file; None: only named, to be taken from the environment.

    Values may be in quotes: in single ones nothing is special, in double ones `\\n` and variables
    are. Without, ` #` begins a comment. Variables are those of `variables`, then earlier lines'.

    Raises:
        BadText: a line that is no `NAME=VALUE`; the text says which.
    """
    found: dict[str, str | None] = {}
    lines = text.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at]
        at += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _LINE.match(line)
        if not parts:
            raise BadText(f"line {number}: expected NAME=VALUE")
        value = parts[2]
        if value is None:
            found[parts[1]] = None
            continue
        quote = value.lstrip()[:1]
        while quote in ("'", '"') and quote and not _is_closed(value.lstrip(), quote):
            if at == len(lines):
                raise BadText(f"line {number}: {quote} without its end")
            value += "\n" + lines[at]
            at += 1
        known = {**{k: v for k, v in found.items() if v is not None}, **variables}
        try:
            found[parts[1]] = _env_value(value.strip(" \t"), known)
        except BadText as err:
            raise BadText(f"line {number}: {err}") from err
    return found


def _is_closed(value: str, quote: str) -> bool:
    return _end_quote(value, quote) > 0


def _end_quote(value: str, quote: str) -> int:
    at = 1
    while at < len(value):
        if value[at] == "\\" and quote == '"':
            at += 1
        elif value[at] == quote:
            return at
        at += 1
    return -1


def _env_value(value: str, known: Mapping[str, str]) -> str:
    quote = value[:1]
    if quote in ("'", '"') and quote:
        end = _end_quote(value, quote)
        rest = value[end + 1 :].strip()
        if rest and not rest.startswith("#"):
            raise BadText(f"text behind the closing {quote}")
        inside = value[1:end]
        if quote == "'":
            return inside
        inside = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), inside, flags=re.DOTALL)
        return interpolate(inside, known, lambda _name: None)
    plain = "" if value.startswith("#") else re.split(r"\s+#", value, maxsplit=1)[0]
    return interpolate(plain.rstrip(), known, lambda _name: None)
