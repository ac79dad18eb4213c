#!/usr/bin/env bash
# Make the environment that the book runs in: .ci/setup.sh VENV EXTRAS [check]
# With `check` it only looks whether it could. Does nothing when VENV already holds what pyproject.toml and constraints.txt ask for (a stamp inside VENV says so).
# Whatever is missing on this machine ends the run with one clear line and exit status 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$1
extras=$2
mode=${3:-make}
need_gb=${NEED_GB:-12}
supported="3.11, 3.12 or 3.13"

die() {
    echo "error: $*" >&2
    exit 1
}

# prints "3.11" for a working interpreter, nothing for anything else (a name may be a launcher that leads nowhere)
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

is_supported() {
    case $1 in 3.11 | 3.12 | 3.13) return 0 ;; *) return 1 ;; esac
}

find_python() {
    local candidate version
    if [ -n "${PYTHON:-}" ]; then
        version=$(version_of "$PYTHON")
        [ -n "$version" ] || die "PYTHON=$PYTHON does not run; set PYTHON to a Python $supported."
        is_supported "$version" || die "PYTHON=$PYTHON is Python $version; the book needs Python $supported."
        python=$PYTHON
        return
    fi
    for candidate in python3.11 python3.12 python3.13 python3 python; do
        version=$(version_of "$candidate")
        if is_supported "$version"; then
            python=$candidate
            return
        fi
    done
    version=$(version_of python3)
    die "Python $supported not found (python3 is ${version:-missing}); install one or set PYTHON=/path/to/python3.11."
}

check_disk() {
    local place=$venv free_kb
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    free_kb=$(df -Pk "$place" | awk 'NR == 2 { print $4 }')
    [ "$free_kb" -ge $((need_gb * 1024 * 1024)) ] ||
        die "$((free_kb / 1024 / 1024)) GB free on the disk of $venv; the environment needs $need_gb GB."
}

check_compiler() {
    local dir ok=yes
    dir=$(mktemp -d)
    printf 'int main(void) { return 0; }\n' >"$dir/try.c"
    # shellcheck disable=SC2086 # CC may carry flags
    { ${CC:-cc} -o "$dir/try" "$dir/try.c" && "$dir/try"; } >/dev/null 2>&1 || ok=no
    rm -rf "$dir"
    [ $ok = yes ] || die "no working C compiler (${CC:-cc}); on Debian or Ubuntu: apt install build-essential."
}

hash_of() {
    { pwd; echo "$extras"; "$venv/bin/python" -VV; cat pyproject.toml constraints.txt; } | sha256sum | cut -c1-16
}

if [ -x "$venv/bin/python" ] && [ -e "$venv/.ready-$(hash_of)" ]; then
    exit 0
fi

if [ -x "$venv/bin/python" ]; then
    version=$(version_of "$venv/bin/python")
    is_supported "$version" || die "$venv holds Python ${version:-(broken)}; the book needs Python $supported: make clean-env."
    if [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$version" ]; then
        die "$venv holds Python $version, but PYTHON=$PYTHON is another one: make clean-env, or leave PYTHON unset."
    fi
else
    find_python
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        die "$python cannot make environments; on Debian or Ubuntu: apt install python$(version_of "$python")-venv."
fi
check_disk
check_compiler
[ "$mode" = make ] || exit 0

if [ ! -x "$venv/bin/python" ]; then
    echo "Making $venv with $("$python" -V)"
    "$python" -m venv "$venv" || die "$python could not make the environment $venv."
fi
"$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
    die "$venv has no pip; on Debian or Ubuntu: apt install python$(version_of "$venv/bin/python")-venv, then make clean-env."
echo "Installing the pinned packages into $venv (the first time: several GB, 5 to 20 minutes)"
rm -f "$venv"/.ready-*
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]" ||
    die "pip could not install the packages of constraints.txt (its message stands above)."
touch "$venv/.ready-$(hash_of)"
