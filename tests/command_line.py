"""Commands as a user types them, in this process."""

from typer.testing import CliRunner, Result

from genets.cli import app


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def fails(result: Result, *parts: str, status: int = 2) -> str:
    """One sentence on standard error, nothing on standard output; the sentence."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    assert line.startswith("genets: ")
    for part in parts:
        assert part in line
    return line
