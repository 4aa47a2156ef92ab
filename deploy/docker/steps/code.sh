#!/usr/bin/env bash
# Install the wheel of this checkout for the Python environment in FOLDER, below PREFIX: code.sh FOLDER PREFIX
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=$1 prefix=$2
building=$(mktemp -d)
trap 'rm -rf "$building"' EXIT
uv build --quiet --wheel --python "$folder/bin/python" --require-hashes \
    --build-constraints deploy/docker/steps/build.txt --out-dir "$building" .
uv pip install --quiet --python "$folder/bin/python" --prefix "$prefix" --no-deps "$building"/*.whl
rm -f "$folder/.lock" "$prefix/.lock"
