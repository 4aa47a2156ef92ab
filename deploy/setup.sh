#!/usr/bin/env bash
# Make .venv with everything that the project needs, or bring it up to date with setup.py.
#
# What pip cannot install (Python 3.11, a JDK, Maven) is installed with apt-get where that is possible, as root on
# Debian and its like; elsewhere the script says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
    local candidate
    for candidate in python3.11 python3; do
        if "$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

has_jdk() {
    local launcher=${JAVA_HOME:+$JAVA_HOME/bin/}java version
    version=$("$launcher" -version 2>&1 | sed -nE 's/.*version "(1\.)?([0-9]+).*/\2/p')
    ((${version:-0} >= 17))
}

missing=()
packages=()
look_around() {
    missing=()
    packages=()
    if [[ ! -x .venv/bin/python && -z $(find_python) ]]; then
        missing+=("Python 3.11 with its venv module (https://www.python.org/downloads, or pyenv install 3.11)")
        packages+=(python3.11 python3.11-venv)
    fi
    if ! has_jdk; then
        missing+=("a JDK of version 17 (https://adoptium.net), on PATH or named by JAVA_HOME")
        packages+=(openjdk-17-jdk-headless)
    fi
    if ! command -v mvn >/dev/null; then
        missing+=("Maven 3.8 or later (https://maven.apache.org/download.cgi)")
        packages+=(maven)
    fi
}

look_around
if ((${#missing[@]})) && ((EUID == 0)) && command -v apt-get >/dev/null; then
    echo "installing ${packages[*]}" >&2
    if apt-get update -qq >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null || true
    fi
    hash -r
    look_around
fi
if ((${#missing[@]})); then
    echo "error: this is missing:" >&2
    printf '  * %s\n' "${missing[@]}" >&2
    echo "On Debian 12: apt-get install ${packages[*]}" >&2
    exit 1
fi

if ! cmp -s setup.py .venv/installed-for; then
    if ! .venv/bin/python -c '' 2>/dev/null; then
        "$(find_python)" -m venv --clear .venv
    fi
    echo "installing into .venv what setup.py names; the first time it takes some minutes" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,stack,docs]'
    cp setup.py .venv/installed-for
fi
