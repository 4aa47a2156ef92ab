"""A start that would lose records at the first restart is refused."""

import pytest

from tests.e2e.installation import sunbird_pipelines


@pytest.mark.parametrize(
    "option", ["--finish_bundle_before_checkpointing=false", "--no_finish_bundle_before_checkpointing"]
)
@pytest.mark.parametrize("job", ["activity-aggregate-updater", "relation-cache-updater"])
def test_a_run_that_commits_offsets_of_open_bundles_is_refused(job: str, option: str) -> None:
    refused = sunbird_pipelines("run", job, "--set", "service.search.basePath=http://localhost:1", "--", option)
    assert refused.returncode == 2
    assert "finish_bundle_before_checkpointing must be on" in refused.stderr
