"""Help texts, and that they come at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import genets
from genets.cli import app
from genets.nas.settings.presets import PRESETS

COMMANDS = (
    "search",
    "select",
    "report",
    "train",
    "zoo",
    "measure",
    "compare",
    "profile",
    "eval",
    "rank",
    "export",
)
HEAVY = ("torch", "timm", "numpy", "scipy", "sklearn", "pydantic", "rich")


def help_of(*words):
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


def test_the_commands_are_listed():
    text = help_of()
    assert all(command in text for command in COMMANDS)
    assert "Exit status" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_seed_and_an_example(command):
    text = help_of(command)
    assert "--json" in text
    assert "--seed" in text
    assert f"genets {command} " in text


def test_units_and_presets_are_named():
    text = help_of("search")
    assert "0.2ms, 150us, 0.5x" in text
    assert "Input size in pixels" in text
    assert all(preset in text for preset in PRESETS)


def test_nothing_heavy_is_imported_for_help():
    code = f"import sys, genets, genets.cli; print([m for m in {HEAVY} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


WRONG = (
    "search --out a --data digits --budget 1ms --engine foo",
    "search --out a --data digits --budget soon",
    "search --out a --data digits --budget 1ms --trial-epochs -3",
    "search --out a --data digits --budget 1ms --preset foo",
    "measure genet_light --engine foo",
    "compare genet_light --precision int9",
    "profile --device cpux",
)


def test_wrong_words_do_not_wait_for_pytorch(tmp_path):
    code = f"""
import sys
from typer.testing import CliRunner
from genets.cli import app
results = [CliRunner().invoke(app, words.split()) for words in {WRONG}]
print([result.stderr.startswith("genets: ") for result in results], "torch" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.strip() == f"{[True] * len(WRONG)} False"
    assert not list(tmp_path.iterdir())


def test_version_is_that_of_the_package():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"genets {genets.__version__}\n")


def test_version_is_that_of_a_checkout_that_is_not_installed(tmp_path):
    """As with PYTHONPATH: there is no record of an installation, or the record of another one."""
    package = tmp_path / "src" / "genets"
    shutil.copytree(Path(genets.__file__).parent, package)
    init = package / "__init__.py"
    init.write_text(init.read_text().replace(genets.__version__, "9.9.9"))
    command = [sys.executable, "-m", "genets", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=package.parent)
    assert shown.stdout == "genets 9.9.9\n"
