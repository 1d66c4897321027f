"""What all commands do alike: seeds that torch takes, and warnings in one line."""

import warnings

import pytest
from typer.testing import CliRunner

from genets.cli import app, main

NETWORK = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x32 @16"


@pytest.mark.parametrize("seed", ["-1", str(2**63), "nan"])
@pytest.mark.parametrize(
    "words",
    [
        ("eval", NETWORK, "--data", "digits"),
        ("export", NETWORK, "--out", "gone"),
        ("rank", NETWORK),
        ("measure", NETWORK),
        ("compare", NETWORK),
        ("profile",),
    ],
)
def test_seeds(words, seed) -> None:
    result = CliRunner().invoke(app, [*words, "--seed", seed])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Invalid value for '--seed'" in result.stderr


def test_warnings_are_one_line(monkeypatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # restored at the end
    monkeypatch.setattr("sys.argv", ["genets", "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    shown = warnings.formatwarning("image a.jpg is skipped", UserWarning, "folder.py", 87)
    assert shown == "warning: image a.jpg is skipped\n"
