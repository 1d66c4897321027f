"""Errors that a user can cause, and the sentences that explain them."""

import difflib
import reprlib
from collections.abc import Iterable

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


class GenetsError(ValueError):
    """A wrong input. The message is one sentence; commands exit with `exit_status`."""

    exit_status = 2


class StructureError(GenetsError):
    """A structure, its notation or its TOML form breaks a rule.

    field: the name of the field that is wrong, where it is one field.
    stage: the number of the stage that is wrong, counted from 1, where it is one stage.
    position: the character of the text that was read, counted from 1, where there was a text.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        stage: int | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__(message)
        self.field = field
        self.stage = stage
        self.position = position


class BlockFileError(GenetsError):
    """A file with block types of the user's own is missing, fails, or has changed."""


class DataError(GenetsError):
    """A data set is unknown, unreadable or unfit for what was asked."""


class TrainingError(GenetsError):
    """A training cannot go on, or its network gives no finite outputs."""


class TargetError(GenetsError):
    """A latency target or a budget is malformed, or this machine does not have it."""


class SettingsError(GenetsError):
    """A setting is unknown, missing or out of range."""


class StudyError(GenetsError):
    """A study folder is damaged, foreign, or holds other settings."""


class InfeasibleBudgetError(GenetsError):
    """No structure of the design space keeps the budget.

    fastest: the fastest structure there is, in the one-line notation.
    fastest_ms, budget_ms: its measured (or, where none was measured, predicted) latency and
        the budget, ms per image.
    """

    exit_status = 3

    def __init__(
        self,
        message: str,
        *,
        fastest: str | None = None,
        fastest_ms: float | None = None,
        budget_ms: float | None = None,
    ) -> None:
        super().__init__(message)
        self.fastest = fastest
        self.fastest_ms = fastest_ms
        self.budget_ms = budget_ms


def shown(value: object) -> str:
    """`value` as a message shows it: its repr on one line, shortened where it is long."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        return f"a huge {type(value).__name__}"


def printable(text: str) -> str:
    """`text`, with escapes for what tables, pictures and UTF-8 cannot hold, such as line breaks."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """One sentence for a name that is not known, with the nearest valid ones."""
    names = {valid_name.lower(): valid_name for valid_name in sorted(valid)}
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if near:
        suggestions = " or ".join(names[lower] for lower in near)
        return f"unknown {kind} {shown(name)}; did you mean {suggestions}?"
    some = ", ".join(list(names.values())[:12]) + (", ..." if len(names) > 12 else "")
    return f"unknown {kind} {shown(name)}; known are {some}"


def first_line(error: BaseException) -> str:
    """Give the reason of a failure on one line.

    Args:
        error: Any exception, also one of a foreign library.

    Returns:
        The first line of the message, at most 500 characters, or the name of the exception's
        class where the message is empty.
    """
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:500] if lines else type(error).__name__
