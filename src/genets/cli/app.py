"""The `genets` command: its sub-commands, its help, and the exit status of every error."""

from __future__ import annotations

import errno
import inspect
import logging
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from genets.cli.compare import compare
from genets.cli.doctor import doctor
from genets.cli.eval import eval_
from genets.cli.export import export
from genets.cli.measure import measure
from genets.cli.option_groups import expand_groups, expand_home
from genets.cli.options import PANELS
from genets.cli.predict import predict
from genets.cli.profile import profile
from genets.cli.rank import rank
from genets.cli.report import report
from genets.cli.search import search
from genets.cli.select import select
from genets.cli.train import train
from genets.cli.zoo import zoo
from genets.core.errors import GenetsError, InfeasibleBudgetError
from genets.core.log import set_verbosity

COMMANDS: dict[str, Callable[..., None]] = {
    "search": search, "select": select, "report": report, "train": train, "zoo": zoo,
    "measure": measure, "compare": compare, "profile": profile, "rank": rank, "eval": eval_,
    "export": export, "predict": predict, "doctor": doctor,
}  # fmt: skip

# Old names that still work and are not in the help.
RENAMED = {
    "search": {"--masternet": "--compare-masters", "--response": "--metric"},
}
_LITERAL = "is no longer an option: use --preset paper-literal, or --set {}=..."
_NO_SEED = "is no longer an option: genets {} draws nothing at random"
REMOVED = {
    "search": {
        "--regression": _LITERAL.format("regression"),
        "--selection": _LITERAL.format("selection"),
        "--sampling": _LITERAL.format("sampling"),
        "--trials": _LITERAL.format("trials"),
        "--thaw": _LITERAL.format("trial_training.thaw"),
    },
    "select": {
        "--cautious": "is no longer an option: no benefit of it was measured",
        "--seed": _NO_SEED.format("select"),
    },
    **{name: {"--seed": _NO_SEED.format(name)} for name in ("report", "zoo")},
}

# Errors of the disk that a user can fix; any other OSError is a fault of genets.
DISK_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
}  # fmt: skip
INTERRUPTED, TERMINATED = 130, 143  # what shells report for a command stopped by Ctrl-C, by SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a cluster sends; a command treats it like Ctrl-C."""


class _Command(TyperCommand):
    """A command that builds its options when it is called, and groups them by panel in its help."""

    def __init__(self, name: str, function: Callable[..., None]) -> None:
        super().__init__(name, help=inspect.getdoc(function), rich_markup_mode=None)
        self._function = function

    def get_params(self, ctx: Any) -> list[Any]:
        if self.callback is None:
            single = typer.Typer(add_completion=False)
            single.command()(expand_groups(self._function))
            built = typer.main.get_command(single)
            self.params, self.callback = built.params, built.callback
        return super().get_params(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._with_new_names(args))

    def _with_new_names(self, args: list[str]) -> list[str]:
        """Rename old options. Raises GenetsError: an option was removed."""
        renamed, removed = (table.get(str(self.name), {}) for table in (RENAMED, REMOVED))
        end = args.index("--") if "--" in args else len(args)
        result = []
        for word in args[:end]:
            name, equals, value = word.partition("=")
            if name in removed:
                raise GenetsError(f"{name} {removed[name]}")
            result.append(renamed.get(name, name) + equals + value)
        return result + args[end:]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{p: [] for p in PANELS}}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            is_argument = param.param_type_name == "argument"
            panel = getattr(param, "rich_help_panel", None) or "Options"
            if record is not None:
                panels["Arguments" if is_argument else panel].append(record)
        for title, records in panels.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class _Commands(TyperGroup):
    """Turns errors that a user can cause into one sentence and an exit status."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, function in COMMANDS.items():
            self.add_command(_Command(name, function))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GenetsError as error:
            if isinstance(error, InfeasibleBudgetError):
                _show_fastest(error)
            _fail(str(error), error.exit_status)
        except KeyboardInterrupt as stop:
            _fail("stopped", TERMINATED if isinstance(stop, Terminated) else INTERRUPTED)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            place = f"{error.filename}: " if error.filename else ""
            _fail(f"{place}{error.strerror}", GenetsError.exit_status)


app = typer.Typer(
    name="genets",
    cls=_Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    rich_markup_mode=None,  # plain help, because rich would cost a third of the start-up time
    pretty_exceptions_enable=False,
    help="""Find, train and export the most accurate image classifier whose measured latency meets
    your budget.

    A NETWORK is a name of the zoo (see `genets zoo`), `timm:NAME`, a structure file (.toml), a
    quoted notation or a results folder. Latencies are ms per image at the target's batch size.

    Exit status: 0 done; 2 wrong input, explained in one sentence on standard error (also with
    --json); 3 no network meets the budget; with several budgets, at least one budget is not met;
    4 the device stayed busy, so no measurement could decide on the budget; 130 stopped by Ctrl-C;
    143 stopped by SIGTERM.
    """,
)


def _show_version(show: bool) -> None:
    if show:
        from genets import __version__
        from genets.cli.output import print_lines

        print_lines([f"genets {__version__}"])
        raise typer.Exit


@app.callback()
def _general(
    own_blocks: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="File that registers block types of your own; may be repeated."
        ),
    ] = None,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="Show the log on standard error; -vv shows details too.",
            show_default=False,
        ),
    ] = 0,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Show results and errors only."),
    ] = False,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    from genets.cli import output

    if verbose and quiet:
        raise GenetsError("give --verbose or --quiet, not both")
    set_verbosity({0: None, 1: logging.INFO}.get(verbose, logging.DEBUG))
    output.set_quiet(quiet)
    output.show_descriptions(not verbose)  # a verbose command shows the log
    if own_blocks:
        from genets.networks import load_blocks

        for path in expand_home(own_blocks):
            load_blocks(path)


def main() -> None:
    """Entry point of the `genets` script."""
    from genets.cli.output import escape_what_streams_lack

    escape_what_streams_lack()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    terminated = False

    def terminate(number: int, frame: object) -> NoReturn:
        nonlocal terminated
        terminated = True
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        app(prog_name="genets")
    except (SystemExit, Terminated):
        # Before a command runs, typer and not `_Commands` handles the signal, as it does Ctrl-C.
        if terminated:
            raise SystemExit(TERMINATED) from None
        raise
    finally:
        # Ctrl-C while the process ends would print a traceback of whatever is cleaned up then.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _fail(sentence: str, status: int) -> NoReturn:
    from genets.cli.output import print_error

    print_error(f"genets: {' '.join(sentence.split())}")
    raise typer.Exit(status)


def _show_fastest(error: InfeasibleBudgetError) -> None:
    from genets.cli.output import error_console
    from genets.report.study.tables import fastest_table

    table = fastest_table(error)
    if table is not None:
        error_console().print(table)
