#!/usr/bin/env bash
# Make a Python environment in FOLDER, of what LOCK names and the wheel of this checkout: python.sh FOLDER LOCK
#
# Every package is of the version and has one of the hashes that LOCK says. Only wheels are taken, but for the few
# packages of pure Python that have none: no compiler is needed, none is there.
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=$1 lock=$2
building=$(mktemp -d)
trap 'rm -rf "$building"' EXIT
uv build --quiet --wheel --python 3.11 --out-dir "$building" .
uv venv --quiet --clear --python 3.11 "$folder"
uv pip install --quiet --python "$folder/bin/python" --require-hashes -r "$lock"
uv pip install --quiet --python "$folder/bin/python" --no-deps "$building"/*.whl
