"""The tools that check what is deployed: deploy/tools.sh."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "deploy/tools.sh"


def tool(name: str) -> str:
    """The path of a tool. Skips the test where Go is missing and would build it, but not in continuous integration."""
    found = subprocess.run([TOOLS, name], capture_output=True, text=True, timeout=280, check=False)
    if found.returncode == 3 and not os.environ.get("CI"):
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()
