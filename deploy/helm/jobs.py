"""The chart's list of jobs, which Helm cannot read from pipelines/jobs.py: `python -m deploy.helm.jobs` writes it."""

import ast
import json
from pathlib import Path

LIST = Path(__file__).parent / "sunbird-pipelines" / "files" / "jobs.json"
REGISTRY = Path(__file__).parents[2] / "pipelines" / "jobs.py"


def names() -> list[str]:
    """The names of all jobs. The registry is read, not imported: this room does not know the pipelines."""
    for node in ast.parse(REGISTRY.read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "JOBS" and node.value is not None:
            return sorted(ast.literal_eval(node.value))
    raise ValueError(f"{REGISTRY}: there is no JOBS")


def text() -> str:
    """What the list has to be."""
    return json.dumps(names(), indent=2) + "\n"


if __name__ == "__main__":
    LIST.write_text(text())
