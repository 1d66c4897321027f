"""Errors that a user can cause, and helpers for their messages."""

import difflib
import re
import reprlib
from collections.abc import Iterable

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
SHORT_LIST, LONG_LIST = 8, 12  # of names in a message
# Texts of errors of CUDA, of the allocators of PyTorch, ONNX Runtime and C++, and of oneDNN, which
# needs memory for its code and buffers. The descriptor of a primitive fails for another reason: an
# unsupported operation.
NO_MEMORY = re.compile(
    "out of memory|allocate memory|Failed to allocate|DefaultCPUAllocator|bad_alloc"
    "|could not create a (primitive(?! descriptor)|memory object)"
)


class GenetsError(ValueError):
    """A wrong input. The message is one sentence, and a command exits with `exit_status`."""

    exit_status = 2


class StructureError(GenetsError):
    """A structure, its notation or its TOML form breaks a rule.

    Attributes:
        field: name of the wrong field, if it is one field.
        stage: number of the wrong stage, from 1, if it is one stage.
        position: position of the fault in the text, from 1, if a text was read.
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
    """A file with a user's own block types is missing, fails, or has changed."""


class DataError(GenetsError):
    """A data set is unknown or unreadable, or does not fit its use."""


class TrainingError(GenetsError):
    """A training cannot continue, or its network gives no finite outputs."""


class DivergedError(TrainingError):
    """The loss or the outputs of a network are not finite."""


class TargetError(GenetsError):
    """A target or a budget is malformed, or this machine does not have the target."""


class SettingsError(GenetsError):
    """A setting is unknown, missing or out of range."""


class StudyError(GenetsError):
    """A study folder is damaged, foreign, or holds other settings."""


class WorkersError(GenetsError):
    """Workers on other machines cannot be reached, differ from this machine, or died."""


class FullDiskError(GenetsError):
    """A file cannot be written, because the disk is full or the user's quota is used up."""


class InfeasibleBudgetError(GenetsError):
    """No structure of the design space meets the budget.

    Attributes:
        fastest: the fastest structure of the space, in the one-line notation.
        fastest_ms: its measured latency, or the predicted one if it was not measured, in ms per
            image.
        budget_ms: the budget, in ms per image.
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


class BusyDeviceError(GenetsError):
    """The device stayed busy for too long, so no measurement could decide on the budget."""

    exit_status = 4


def shown(value: object) -> str:
    """The value as a message shows it: its repr on one line, shortened if it is long."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        return f"a huge {type(value).__name__}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, such as `1 image` or `2 images`.

    Args:
        number: The number.
        noun: The noun for one.
        plural: The noun for any other number; by default `noun` with an `s`.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def printable(text: str) -> str:
    """The text with escapes for line breaks and other characters that a table cannot hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def encodable(text: str, encoding: str = "utf-8") -> str:
    """The text with escapes for characters that an encoding lacks.

    UTF-8 lacks the characters by which Python stands for a file name that is not valid UTF-8.
    """
    return text.encode(encoding, "backslashreplace").decode(encoding)


def check_path_text(name: str, path: str) -> None:
    """Raise SettingsError where a path is not valid UTF-8, because JSON files cannot state it.

    name: The name of the setting.
    """
    if encodable(path) != path:
        raise SettingsError(f"{name} must be a path that is valid UTF-8, not {shown(path)}")


def install_hint(extra: str = "") -> str:
    """How to install genets with an extra. No package of genets is published."""
    place = f"'.[{extra}]'" if extra else "."
    return f"in the clone of genets: pip install {place}"


def unknown_name(kind: str, name: str, valid: Iterable[str], remark: str = "") -> str:
    """One sentence for an unknown name, with the nearest valid names or a short list of all.

    Args:
        kind: The word for the name in the sentence.
        name: The unknown name.
        valid: The valid names.
        remark: Text in parentheses after the name.
    """
    unknown = f"unknown {kind} {shown(name)}" + (f" ({remark})" if remark else "")
    names = {valid_name.lower(): valid_name for valid_name in sorted(valid)}
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if near:
        suggestions = " or ".join(names[lower] for lower in near)
        others = len(near) < len(names) <= SHORT_LIST
        valid_names = f" Valid names are {', '.join(names.values())}" if others else ""
        return f"{unknown}; did you mean {suggestions}?{valid_names}"
    some = ", ".join(list(names.values())[:LONG_LIST]) + (", ..." if len(names) > LONG_LIST else "")
    return f"{unknown}; valid names are {some}"


def check_type(argument: str, value: object, kind: type | tuple[type, ...], allowed: str) -> None:
    """Check the type of an argument of a public function.

    Args:
        argument: The name of the argument.
        value: Its value.
        kind: The allowed types; a bool is no int.
        allowed: The words for the allowed types in the message.

    Raises:
        GenetsError: The value has another type.
    """
    if isinstance(value, bool) or not isinstance(value, kind):
        raise GenetsError(f"{argument} must be {allowed}, not {shown(value)}")


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a GPU or of the CPU ran out; most libraries have no type for that."""
    if isinstance(error, MemoryError):
        return True
    return not isinstance(error, GenetsError) and NO_MEMORY.search(str(error)) is not None
