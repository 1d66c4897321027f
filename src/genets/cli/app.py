"""The `genets` command: its sub-commands, and how errors leave it."""

import errno
import signal
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from genets.cli.compare import compare
from genets.cli.eval import eval_
from genets.cli.export import export
from genets.cli.measure import measure
from genets.cli.profile import profile
from genets.cli.rank import rank
from genets.cli.report import report
from genets.cli.search import search
from genets.cli.select import select
from genets.cli.train import train
from genets.cli.zoo import zoo
from genets.core.errors import GenetsError, InfeasibleBudgetError

# What the user can cure on the disk; any other OSError would be a fault of ours.
DISK_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
}  # fmt: skip
INTERRUPTED, TERMINATED = 130, 143  # what shells report for a command stopped by Ctrl-C, by SIGTERM


class Terminated(KeyboardInterrupt):
    """A cluster wants its machine back: to a command the same as Ctrl-C."""


class _Commands(TyperGroup):
    """Turns errors that a user can cause into one sentence and an exit status."""

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
            _fail(f"{place}{error.strerror}; what was finished is kept", GenetsError.exit_status)


app = typer.Typer(
    name="genets",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich would cost a third of the start-up time
    pretty_exceptions_enable=False,
    help="""Find, train and hand over the most accurate image network for your device, data
    and latency budget.

    A NETWORK is a name of the zoo (see `genets zoo`), `timm:NAME`, a structure file (.toml) or
    a quoted notation. Latencies are ms per image at the target's batch size.

    Exit status: 0 done; 2 wrong input, told in one sentence on standard error (with --json,
    too); 3 no network keeps the budget; 130 stopped by Ctrl-C, 143 by SIGTERM.
    """,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from genets import __version__

        typer.echo(f"genets {__version__}")
        raise typer.Exit


@app.callback()
def _general(
    own_blocks: Annotated[
        list[Path] | None,
        typer.Option(help="File that registers block types of your own; may be repeated."),
    ] = None,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if own_blocks:
        from genets.networks import load_blocks

        for path in own_blocks:
            load_blocks(path)


for _command in (search, select, report, train, zoo, measure, compare, profile, rank, export):
    app.command()(_command)
app.command("eval")(eval_)


def main() -> None:
    """Entry point of the `genets` script."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="genets")


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


def _fail(sentence: str, status: int) -> NoReturn:
    typer.echo(f"genets: {' '.join(sentence.split())}", err=True)
    raise typer.Exit(status)


def _show_fastest(error: InfeasibleBudgetError) -> None:
    from genets.cli.output import error_console
    from genets.report import fastest_table

    table = fastest_table(error)
    if table is not None:
        error_console().print(table)
