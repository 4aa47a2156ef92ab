#!/usr/bin/env bash
# Write the locks of the images anew: what setup.py pins, all that those packages need, each with its hashes.
# Newer versions of what setup.py does not name are only taken with --upgrade: lock.sh [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/../.."
uv=.venv/bin/uv
lock() { # FILE of the lock, what to lock…
    "$uv" pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate \
        --custom-compile-command "make lock" --output-file "deploy/docker/$1" "${@:2}" >/dev/null
}
lock requirements.lock setup.py "$@"
lock requirements-stack.lock --extra stack --constraint deploy/docker/requirements.lock setup.py "$@"
{ grep -o '"uv==[^"]*"' setup.py | tr -d '"' && echo setuptools; } | lock steps/build.txt - "$@"
