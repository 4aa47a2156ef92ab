#!/usr/bin/env bash
# Make a Python environment in FOLDER, of what LOCK names: packages.sh FOLDER LOCK
#
# Every package is of the version and has one of the hashes that LOCK says. Only wheels are taken, but for the few
# packages of pure Python that have none, which the setuptools of build.txt builds: no compiler is needed, none is there.
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=$1 lock=$2
uv venv --quiet --clear --python 3.11 "$folder"
uv pip install --quiet --python "$folder/bin/python" --require-hashes \
    --build-constraints deploy/docker/steps/build.txt -r "$lock"
# uv's own; everybody may write it
rm -f "$folder/.lock"
