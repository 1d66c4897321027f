"""What all commands do alike: seeds that torch takes, warnings in one line, -v and -q."""

import warnings

import pytest
from typer.testing import CliRunner

from genets.cli import app, main, output
from genets.core.errors import GenetsError
from genets.core.log import get_logger, set_verbosity
from genets.core.progress import Progress

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


@pytest.fixture
def speaking(monkeypatch):
    """`genets report` logs, warns, shows progress and remarks, and prints a result."""
    from genets.cli.progress import show_progress
    from genets.nas.snapshot import Snapshot

    def read(folder):
        log = get_logger("genets.test")
        log.debug("a detail")
        log.info("a phase")
        warnings.warn("an image is skipped", stacklevel=1)
        with show_progress(plain=True) as on_step:
            on_step(Progress("trials", 2, 2))
        output.print_remark("note: a remark")
        output.print_lines(["the result"])
        raise GenetsError("the error")

    monkeypatch.setattr(Snapshot, "read", read)
    yield
    set_verbosity(None)
    output.set_quiet(False)


@pytest.mark.parametrize(
    ("options", "shown", "hidden"),
    [
        ([], ["trials: 2 of 2", "note: a remark"], ["a phase", "a detail"]),
        (["-v"], ["INFO genets.test: a phase", "note: a remark"], ["a detail"]),
        (["-vv"], ["a phase", "DEBUG genets.test: a detail", "note: a remark"], []),
        (["--verbose"], ["a phase"], ["a detail"]),
        (["-q"], [], ["trials", "a remark", "a phase", "a detail"]),
        (["--quiet"], [], ["trials", "a remark", "a phase", "a detail"]),
    ],
)
@pytest.mark.usefixtures("speaking")
def test_verbose_and_quiet(options, shown, hidden) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = CliRunner().invoke(app, [*options, "report", "study"])
    assert result.exit_code == 2
    assert bool(caught) == (options not in (["-q"], ["--quiet"]))
    assert "the result" in result.stdout
    assert result.stderr.splitlines()[-1] == "genets: the error"
    assert all(text in result.stderr for text in shown), result.stderr
    assert not any(text in result.stderr for text in hidden), result.stderr


def test_verbose_and_quiet_exclude_each_other() -> None:
    result = CliRunner().invoke(app, ["-v", "-q", "zoo"])
    assert (result.exit_code, result.stderr) == (
        2,
        "genets: give --verbose or --quiet, not both\n",
    )
