"""What `sunbird-pipelines replay` takes, and how it shows reasons, which come from records."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from pipelines import replay_command
from pipelines.command_line import app
from pipelines.replay import Outcome

JOB = "activity-aggregate-updater"


def test_a_reason_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome()
    outcome.put_back["no template [/svg]"] += 1
    outcome.put_back["template [red] is none"] += 1
    outcome.put_back["name \x1b[31m\nis none"] += 1
    outcome.not_possible["a"]["a letter of [/x]"] += 1
    replay_command.show(outcome, dry_run=True)
    shown = capsys.readouterr().out
    for told in ("no template [/svg]", "template [red] is none", "a letter of [/x]", "name  [31m is none"):
        assert told in shown


@pytest.mark.parametrize("option", ["--since", "--until", "--reason", "--topic"])
def test_an_option_without_a_value_is_none(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a variable that is not set: it must not mean all letters."""
    monkeypatch.setattr(replay_command, "replay", lambda *arguments, **options: pytest.fail("all letters"))
    result = CliRunner().invoke(app, ["replay", JOB, option, "", "--set", "service.search.basePath=http://search"])
    assert result.exit_code == 2, result.output
    assert option in result.output
