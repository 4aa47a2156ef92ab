#!/usr/bin/env bash
# The unit and job tests with another Beam than the one that setup.py pins: canary.sh [VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:-2.77.0}
python=build/canary/bin/python
.venv/bin/uv venv --quiet --clear --python .venv/bin/python build/canary
# what Beam asks of the others goes before what setup.py pins
printf '%s\n' "apache-beam==$version" pillow >build/canary/override.txt
.venv/bin/uv pip install --quiet --python "$python" --override build/canary/override.txt --editable '.[test,stack,docs]'
# the jar's half of Beam stays the pinned one, which a test would not have
exec "$python" -m pytest -n 2 tests/unit tests/pipelines \
	--deselect tests/unit/test_versions.py::test_both_halves_of_beam_are_of_one_version
