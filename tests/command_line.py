"""Commands as a user types them, in this process."""

from typer.testing import CliRunner

from genets.cli import app


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def fails(result, *parts, status=2):
    """One sentence on standard error, nothing on standard output; the sentence."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    assert line.startswith("genets: ")
    for part in parts:
        assert part in line
    return line
