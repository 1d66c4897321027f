"""Help texts, their options and panels, and that they come at once."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import genets
from genets.cli import app
from genets.cli.app import COMMANDS, REMOVED, RENAMED
from genets.cli.options import PANELS
from genets.cli.setting_options import FROM_IMAGES, SETTINGS
from genets.core.image_facts import ImageSizes
from genets.latency.target import ENGINE_PROVIDERS
from genets.latency.timing.clock import PROTOCOLS
from genets.nas.new_study import _settings_of_many_images
from genets.nas.settings.defaults import DEFAULTS_IN_WORDS
from genets.nas.settings.from_data import settings_from_data
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.networks.baselines import SETS
from genets.training.recipe import recipes
from genets.training.score import Metric

TARGET_COMMANDS = (
    "search", "select", "measure", "compare", "profile", "eval", "export", "predict"
)  # fmt: skip
TARGET_OPTIONS = {
    "--device", "--engine", "--provider", "--precision", "--batch-size", "--threads",
}  # fmt: skip
SEEDED = ("search", "train", "measure", "compare", "profile", "rank", "eval", "export")
HEAVY = ("torch", "timm", "numpy", "scipy", "sklearn", "pydantic", "rich")


def help_of(*words):
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


def options_of(command):
    """The options of a command by name."""
    group = typer.main.get_command(app)
    context = group.commands[command].make_context(command, [], resilient_parsing=True)
    params = context.command.get_params(context)
    return {name: param for param in params for name in param.opts if name.startswith("--")}


def record_of(command, option):
    group = typer.main.get_command(app)
    context = group.commands[command].make_context(command, [], resilient_parsing=True)
    return " ".join(options_of(command)[option].get_help_record(context))


def panel_of(param):
    return getattr(param, "rich_help_panel", None)


def test_the_commands_are_listed():
    text = help_of()
    assert len(COMMANDS) == 13
    assert all(f" {command} " in text for command in COMMANDS)
    assert "Exit status" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_an_example(command):
    text = help_of(command)
    assert "--json" in text
    assert f"genets {command} " in text
    first = inspect.getdoc(COMMANDS[command]).splitlines()[0]
    assert first.endswith(".")
    assert first in help_of(), "the summary is cut off in the list of commands"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_shows_an_escape(command):
    """A line may end in a backslash, as in a shell."""
    lines = CliRunner().invoke(app, [command, "--help"]).stdout.splitlines()
    assert not [line for line in lines if "\\" in line.removesuffix(" \\")]


def test_commands_that_draw_have_a_seed_and_no_others():
    assert [command for command in COMMANDS if "--seed" in options_of(command)] == [
        command for command in COMMANDS if command in SEEDED
    ]


def test_h_is_help():
    short = CliRunner().invoke(app, ["search", "-h"])
    assert short.stdout == CliRunner().invoke(app, ["search", "--help"]).stdout
    assert "Commands:" in CliRunner().invoke(app, ["-h"]).stdout


def test_every_command_with_a_target_has_the_same_target_options():
    for command in COMMANDS:
        options = options_of(command)
        target = {name for name, param in options.items() if panel_of(param) == "Target"}
        assert target == (TARGET_OPTIONS if command in TARGET_COMMANDS else set()), command
    several = {name for name, param in options_of("compare").items() if param.multiple}
    assert several == {"--engine", "--precision", "--batch-size"}


def test_profile_has_the_search_space_of_search():
    search, profile = options_of("search"), options_of("profile")
    space = {name for name, param in search.items() if panel_of(param) == "Search space"}
    assert len(space) == 7
    for name in space:
        assert panel_of(profile[name]) == "Search space"
        assert profile[name].help.replace(" Only with --table MASTERNET.", "") == search[name].help
    assert "--resolution" in profile


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_and_a_default(command):
    options = options_of(command)
    assert all(name not in help_of(command) for name in RENAMED.get(command, {}))
    assert not options.keys() & REMOVED.get(command, {}).keys()
    for name, param in options.items():
        record = record_of(command, name)
        assert re.search(r"[A-Za-z0-9)]\.", record), name
        shown = "default: " in record or "required" in record
        assert shown or param.is_flag or name == "--help", (name, record)


@pytest.mark.parametrize("key", [key for keys in SETTINGS.values() for key in keys])
def test_options_of_the_search_come_from_the_settings(key):
    table, _, field = key.rpartition(".")
    settings = SearchSettings(data="digits", budget="1x")
    owner = getattr(settings, table) if table else settings
    name = f"{table.removesuffix('_training')}_epochs" if "_training" in table else field
    record = record_of("search", "--" + name.replace("_", "-"))
    info = type(owner).model_fields[field]
    assert info.description[1:] in record
    if not info.is_required() and not isinstance(info.default, tuple) and key != "master":
        default = "no" if info.default is False else info.default
        default = "none" if default in (None, "") else default
        shown = f"from the images; {default} for " if key in FROM_IMAGES else f"{default}]"
        shown = DEFAULTS_IN_WORDS.get(key, shown)
        assert f"[default: {shown}" in record


def test_settings_that_follow_from_the_images_say_so():
    """Every setting with an option that a new study without a preset takes from photographs."""
    found = dict(settings_from_data(ImageSizes(1600, 300), has_weights=True).settings)
    many = dict(_settings_of_many_images({}, None).values)
    keys = {key for keys in SETTINGS.values() for key in keys}
    chosen = {"pretrained", *found, *many}
    chosen |= {f"{name}.epochs" for name in found if "epochs" in str(found[name])}
    assert keys & chosen == FROM_IMAGES.keys()
    text = help_of("search")
    assert "[default: from the images; master_small for small images]" in text
    assert "[default: from the images; 36 for small images]" in text
    assert "only with --from-scratch: passes" in record_of("search", "--trial-epochs")
    assert "Without --from-scratch, only batch size, precision and augmentation" in text


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        ("search", "--metric", list(Metric)),
        ("train", "--metric", list(Metric)),
        ("search", "--preset", list(PRESETS)),
        ("compare", "--set", [*SETS, "genets"]),
        ("compare", "--protocol", list(PROTOCOLS)),
        ("measure", "--protocol", list(PROTOCOLS)),
        ("train", "--recipe", list(recipes())),
        ("eval", "--split", ["test", "validation", "train", "all"]),
        ("measure", "--engine", ["auto", *ENGINE_PROVIDERS]),
    ],
)
def test_choices_are_shown_checked_and_completed(command, option, choices):
    assert f"{option} {'|'.join(choices)} " in record_of(command, option) + " "
    words = f"genets {command} {option} "
    variables = {
        "_GENETS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split())),
    }
    shown = CliRunner().invoke(app, [], env=variables, prog_name="genets")
    assert shown.stdout.split() == choices


def test_commands_and_options_are_completed():
    for words, expected in (("genets se", ["search", "select"]), ("genets zoo --t", ["--toml"])):
        place = str(len(words.split()) - 1)
        variables = {
            "_GENETS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place,
        }  # fmt: skip
        shown = CliRunner().invoke(app, [], env=variables, prog_name="genets")
        assert shown.stdout.split() == expected


def test_the_completion_script_is_shown():
    shown = CliRunner().invoke(app, [], env={"_GENETS_COMPLETE": "source_bash"}, prog_name="genets")
    assert "_GENETS_COMPLETE=complete_bash" in shown.stdout


def test_panels_of_the_search():
    lines = CliRunner().invoke(app, ["search", "--help"]).stdout.splitlines()
    titles = [line[:-1] for line in lines if re.fullmatch(r"[A-Z][A-Za-z ]+:", line)]
    assert titles == [panel for panel in PANELS if panel != "Weights"]


def test_preset_and_settings_stand_first():
    search = options_of("search")
    assert panel_of(search["--preset"]) == panel_of(search["--settings"]) == PANELS[0] == "Settings"


@pytest.mark.parametrize("command", COMMANDS)
def test_metavars_show_what_to_type(command):
    text = help_of(command)
    assert "range>" not in text
    assert "<float,float>" not in text
    for name in ("--width-range", "--stem-width-range", "--head-width-range"):
        if name in options_of(command):
            assert f"{name} LOW HIGH " in text


def test_units_and_presets_are_named():
    text = help_of("search")
    assert "0.2ms, 150us, 0.5x" in text
    assert "Input size of the MasterNet in pixels" in text
    assert all(preset in text for preset in PRESETS)


def test_nothing_heavy_is_imported_for_help():
    code = (
        "import sys, typer; from genets.cli import app\n"
        "try: app(['--help'], prog_name='genets')\n"
        f"except SystemExit: print([m for m in {HEAVY} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_the_help_of_a_command_imports_no_pytorch_and_no_rich():
    code = (
        "import sys; from genets.cli import app\n"
        "try: app(['search', '--help'], prog_name='genets')\n"
        "except SystemExit: print([*{'torch', 'timm', 'numpy', 'rich'} & sys.modules.keys()])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


WRONG = (
    "search --out a --data digits --budget 1ms --engine foo",
    "search --out a --data digits --budget soon",
    "search --out a --data digits --budget 1ms --trial-epochs -3",
    "search --out a --data digits --budget 1ms --preset foo",
    "measure genet_light --engine foo",
    "compare genet_light --precision int9",
    "profile --device cpux",
    "profile --table master_small --out a --depth-change -1",
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


def test_a_flag_that_a_preset_sets_has_an_opposite() -> None:
    names = {name for preset in PRESETS.values() for name, value in preset.items() if value is True}
    assert names == {"from_scratch", "pretrained"}
    options = options_of("search")
    for name in names:
        flag = name.replace("_", "-")
        assert options[f"--{flag}"].secondary_opts == [f"--no-{flag}"]
