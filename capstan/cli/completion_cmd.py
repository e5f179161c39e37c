# SPDX-License-Identifier: BSD-2-Clause
"""`capstan completion`: what bash, zsh and fish need so that TAB completes.

The script a shell loads asks `capstan` itself, through a variable; click finds the answer. Its
script for bash is not used: bash splits words at ":" and "=", so that `redis:7` would be three
words, and click's script cannot offer names and files together.
"""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from capstan.cli import main

PROGRAM = "capstan"

BASH = r"""# bash completion of %(prog_name)s
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} cut= response type value
    response=$(COMP_WORDS=$line %(complete_var)s=bash_complete "$1" 2>/dev/null) || return 0
    # bash replaces what follows the last : or =, so that is all an answer may contain.
    [[ $word == [:=] ]] && word=
    local last=${line##*[[:space:]]}
    [[ $last == *[:=]* ]] && cut=${last%%"$word"} && [[ $cut == --*=* ]] && cut=${cut#*=}
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
        plain) COMPREPLY+=("${value#"$cut"}") ;;
        file | dir)
            compopt -o filenames 2>/dev/null
            mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < \
                <(compgen -A "${type/dir/directory}" -- "$word")
            ;;
        esac
    done <<<"$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Bash: the line up to the cursor is one variable."""

    source_template = BASH

    def source(self) -> str:
        """The script; which bash will read it is not known here."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words in front of the one at the cursor, and that."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        return (words[1:], "") if line[-1:].isspace() else (words[1:-1], words[-1])


class WholeWords(ShellComplete):
    """Shells for which `--name=value` is one word: the answer begins with `--name=` too."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """What the word can become."""
        found = super().get_completions(args, incomplete)
        name, equals, _ = incomplete.partition("=")
        if not (equals and name.startswith("--")):
            return found
        return [CompletionItem(f"{name}={it.value}", it.type, it.help) for it in found]


class Zsh(WholeWords, ZshComplete):
    """Zsh."""


class Fish(WholeWords, FishComplete):
    """Fish."""


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


@click.command("completion", short_help="Print what a shell's TAB needs.")
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the script that makes TAB complete commands, options, images and settings.

    \b
    bash: source <(capstan completion bash)                   in ~/.bashrc
    zsh:  source <(capstan completion zsh)                    in ~/.zshrc, after compinit
    fish: capstan completion fish > ~/.config/fish/completions/capstan.fish
    """
    click.echo(_shell(shell).source(), nl=False)


def answer(instruction: str) -> int:
    """Print what the shell asks for in `bash_complete` and the like; the exit status.

    Nothing is said about errors: they would be printed into the line somebody types.
    """
    shell, _, what = instruction.partition("_")
    if shell not in SHELLS or what != "complete":
        return 1
    try:
        text = _shell(shell).complete()
    except Exception:
        return 1
    click.echo(text)
    return 0


def _shell(name: str) -> ShellComplete:
    return SHELLS[name](main.cli, {}, PROGRAM, main.COMPLETE)
