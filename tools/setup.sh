#!/usr/bin/env bash
# Sets up what a make target needs: the virtual environment, the locked packages, the system's programs.
#
#   tools/setup.sh run|test|check|bench
#
# - `run` is what the agent and the demo need, `test` adds the test suite's, `check` adds the linters and type checkers.
#   The project is installed in place. `bench` installs it as a user gets it, in an environment of its own: in place,
#   `keyholt` looks in more folders, and compiles itself anew at every start where PYTHONDONTWRITEBYTECODE is set.
# - Safe to run twice at once: a lock is held throughout, and a level already set up from the same inputs is left alone.
# - Everything from the package index is checked against the hashes in requirements/; nothing is compiled.
# - As root on a Debian system, missing system packages are installed; otherwise one line names them, and it fails.
#
# PYTHON names the interpreter to use; the virtual environment is built anew when it differs from the present one's.
set -euo pipefail
cd "$(dirname "$0")/.."

# setcap and its like are not on every user's path, but they are where they belong.
PATH=$PATH:/usr/sbin:/sbin
readonly LEVEL=${1:?usage: tools/setup.sh run|test|check|bench}
VENV=.venv
[ "$LEVEL" != bench ] || VENV=.venv-bench
readonly VENV
readonly PY=$VENV/bin/python

die() {
    echo "keyholt: $*" >&2
    exit 1
}

# Installs Debian packages, or says which are missing.
system_packages() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "these system packages are missing: $*; install them first, on Debian with: sudo apt-get install $*"
    fi
    echo "Installing system packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    local -a install=(apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@")
    local log
    log=$(mktemp)
    # A machine that never ran `apt-get update` has no lists; one that did can be spared the wait.
    if ! "${install[@]}" >"$log" 2>&1 </dev/null &&
        ! { apt-get update -qq && "${install[@]}"; } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        die "apt-get could not install: $*"
    fi
    rm -f "$log"
}

suits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Prints the name of an interpreter of version 3.11 or later, or nothing.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.13 python3.12}; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

base_prefix() {
    "$1" -c 'import sys; print(sys.base_prefix, sys.version_info[:2])' 2>/dev/null
}

# Whether .venv works, was made in this very folder (its programs name it) and with the interpreter asked for.
venv_is_usable() {
    grep -qF " $(pwd -P)/$VENV" "$VENV/pyvenv.cfg" 2>/dev/null || return
    "$PY" -m pip --version >/dev/null 2>&1 && suits "$PY" || return
    [ -z "${PYTHON:-}" ] || [ "$(base_prefix "$PY")" = "$(base_prefix "$PYTHON")" ]
}

# Prints the Debian packages that the level needs and the machine lacks: from `program:package` pairs, and for .venv.
missing_packages() {
    local pair python
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
    venv_is_usable && return
    python=$(find_python)
    if [ -z "$python" ]; then
        [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not a Python of version 3.11 or later"
        echo python3 python3-venv
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian ships venv without what fills it.
        "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    fi
}

make_venv() {
    venv_is_usable && return
    local python
    python=$(find_python)
    [ -n "$python" ] || die "Python 3.11 or later is needed; name one with PYTHON="
    echo "Creating $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV" || die "$python could not create a virtual environment"
    # setuptools puts a start-up hook of about a millisecond into every run of python; nothing here needs it.
    "$PY" -m pip uninstall --quiet --disable-pip-version-check --yes setuptools 2>/dev/null || true
}

pip_install() {
    "$PY" -m pip install --quiet --no-input --disable-pip-version-check "$@" </dev/null
}

# Runs a step unless it was done before with the same inputs: `once NAME FILES... -- COMMAND...`.
once() {
    local stamp=$VENV/.done-$1
    local -a files=()
    shift
    while [ "$1" != -- ]; do
        files+=("$1")
        shift
    done
    shift
    local now
    now=$(cat "${files[@]}" "$VENV/pyvenv.cfg" | sha256sum)
    [ "$now" = "$(cat "$stamp" 2>/dev/null)" ] && return
    "$@"
    echo "$now" >"$stamp"
}

locked_packages() {
    echo "Installing $1"
    pip_install --require-hashes -r "$1"
}

# The build backend is locked too: no isolated environment, which would fetch whatever is newest.
project_in_place() {
    pip_install --no-build-isolation --no-deps --editable .
}

project_as_a_wheel() {
    pip_install --no-build-isolation --no-deps --force-reinstall .
}

main() {
    local packages programs=()
    case $LEVEL in
    run | bench) packages=run ;;
    test)
        packages=test
        programs=(
            git:git strace:strace gcore:gdb setpriv:util-linux unshare:util-linux setcap:libcap2-bin zsh:zsh fish:fish
        )
        ;;
    check)
        packages=dev
        programs=(git:git)
        ;;
    *) die "no such level: $LEVEL" ;;
    esac
    exec 9>.setup.lock
    flock 9
    local missing
    missing=$(missing_packages "${programs[@]}") || exit
    # shellcheck disable=SC2086 - one word a package
    [ -z "$missing" ] || system_packages $(sort -u <<<"$missing")
    make_venv
    once "$packages" "requirements/$packages.txt" -- locked_packages "requirements/$packages.txt"
    if [ "$LEVEL" = bench ]; then
        local -a sources
        mapfile -t sources < <(find agent protocol client -type f -not -path '*/__pycache__/*' | sort)
        once wheel pyproject.toml "${sources[@]}" -- project_as_a_wheel
    else
        once project pyproject.toml agent/bin/keyholt-agent client/bin/keyholt -- project_in_place
    fi
}

main
