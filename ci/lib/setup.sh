# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Sourced by ci/demo, ci/test and the gates: everything a fresh Debian 12 needs.
# setup_all [PACKAGE...] installs what is missing and makes .venv; it prints one
# line per step that did something, with its time.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$root/.venv
# To build and run images.
base_packages=(gcc make libc6-dev binutils qemu-system-x86 python3-venv python3-dev)
# ci/test only: the guest's code on the host, style, checking images, --gdb and TAB. What
# the programs of ci/apps.toml need stands there and is installed by their gate.
# shellcheck disable=SC2034
test_packages=(clang libclang-rt-14-dev clang-format shellcheck gdb g++ git
    grub-common musl-tools busybox-static xz-utils zsh fish mandoc)

say() { printf '%s\n' "$*"; }

timed() {
    local what=$1 start end
    shift
    start=$(date +%s.%N)
    "$@" || { say "FAILED: $what" >&2; return 1; }
    end=$(date +%s.%N)
    printf '%-44s %6.1f s\n' "$what" "$(echo "$end $start" | awk '{print $1 - $2}')"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install_packages() {
    local missing=() p
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
    done
    [ ${#missing[@]} = 0 ] && return 0
    say "installing: ${missing[*]}"
    { as_root apt-get update -q &&
        DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -q --no-install-recommends \
            "${missing[@]}"; } >"$root/build/apt.log" 2>&1 || {
        tail -5 "$root/build/apt.log" >&2
        say "apt-get could not install ${missing[*]}; see build/apt.log" >&2
        return 1
    }
}

pick_python() {
    local p
    for p in python3.11 python3.12 python3.13 python3; do
        if command -v "$p" >/dev/null &&
            "$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$p"
            return 0
        fi
    done
    say "no Python >= 3.11 with venv found: apt-get install python3-venv" >&2
    return 1
}

# The environment is made anew when pyproject.toml changed since.
make_venv() {
    local stamp=$venv/.stamp python
    if [ ! -e "$stamp" ] || [ "$root/pyproject.toml" -nt "$stamp" ]; then
        python=$(pick_python) || return 1
        "$python" -m venv "$venv" || return 1
        "$venv/bin/pip" install -q -e "${root}[dev]" >"$root/build/pip.log" 2>&1 || {
            tail -5 "$root/build/pip.log" >&2
            return 1
        }
        touch "$stamp"
    fi
}

build_guest() { make -s -j"$(nproc)" -C "$root/guest" >"$root/build/guest.log" 2>&1 || {
    tail -20 "$root/build/guest.log" >&2
    return 1
}; }

# shellcheck disable=SC2120
setup_all() {
    mkdir -p "$root/build"
    timed "packages" install_packages "${base_packages[@]}" "$@" || return 1
    timed "guest kernel" build_guest || return 1
    timed "python environment" make_venv || return 1
    PATH=$venv/bin:$PATH
    export PATH
}
