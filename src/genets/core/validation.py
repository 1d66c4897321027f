"""The validation of settings and records, by pydantic; every fault becomes one sentence.

`import genets`, `genets.structure` and `genets.core.errors` must stay light, so no module that
they import may import this one.

Two forms of records exist. Settings that people write are a `SettingsModel` with nested
`StrictModel`s. Other records are frozen standard dataclasses: `check_fields` checks one when it is
made, `to_plain` and `from_plain` write and read it. The annotations of such a dataclass are read
when it is first used, so their names must be imported at run time, not under `TYPE_CHECKING`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, PydanticSerializationError, core_schema, to_json

from genets.core.errors import GenetsError, SettingsError, first_line, shown, unknown_name

Record = TypeVar("Record")
Location = tuple[int | str, ...]
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's words


class StrictModel(BaseModel):
    """A frozen model that refuses unknown fields, NaN and infinities.

    Attributes:
        other_names: Names that a validator accepts beside the fields, for suggestions.
    """

    other_names: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SettingsModel(StrictModel):
    """The outermost model of some settings; a wrong value raises a GenetsError.

    Nested models are `StrictModel`s: then the message has the complete name of the field, such as
    `target.batch_size`.
    """

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise explain(error, type(self)) from error


def explain(
    error: ValidationError,
    owner: type[Any],
    *,
    kind: str = "setting",
    raises: type[GenetsError] = SettingsError,
    locate: Callable[[Location], Location] = lambda location: location,
) -> GenetsError:
    """Turn the first fault of a validation into one sentence; unknown names precede missing ones.

    Args:
        error: The failed validation.
        owner: The model or dataclass that was validated.
        kind: The word for a field in the message.
        raises: The class of the result.
        locate: Turns pydantic's location of the fault into the names of fields.

    Returns:
        The error to raise. It names the field, the value and the allowed values, and for an unknown
        field the nearest valid names. A GenetsError that a validator raised is returned as it is.
    """
    faults = error.errors(include_url=False)
    fault = faults[0]
    if fault["type"].startswith("missing"):  # perhaps because its name is misspelt
        fault = next((each for each in faults if each["type"] in UNKNOWN), fault)
    location = locate(fault["loc"])
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, GenetsError):
        return cause
    name = ".".join(str(part) for part in location)
    if fault["type"] in UNKNOWN:
        prefix = "".join(f"{part}." for part in location[:-1])
        valid = [prefix + each for each in _field_names(owner, location[:-1])]
        return raises(unknown_name(kind, name, valid))
    if fault["type"].startswith("missing"):
        return raises(f"{kind} {name} must be given")
    rules = [_rule(fault)]
    if alternatives := _alternatives(fault, faults, owner, locate):
        name, rules = ".".join(map(str, location[:-1])), [_rule(each) for each in alternatives]
    text = " or ".join([rules[0], *(rule.removeprefix("must be ") for rule in rules[1:])])
    return raises(f"{name or owner.__name__} {text}, not {shown(fault['input'])}")


def _rule(fault: ErrorDetails) -> str:
    """The rule that a value breaks, such as `must be greater than 0`."""
    rule = fault["msg"].removeprefix("Value error, ").partition(", unable")[0]
    rule = re.sub(r"^\w+ should", "must", rule)  # "Input should be", "String should have"
    return rule[0].lower() + rule[1:]


def _alternatives(
    fault: ErrorDetails,
    faults: Sequence[ErrorDetails],
    owner: type[Any],
    locate: Callable[[Location], Location],
) -> list[ErrorDetails]:
    """The faults of all alternatives of a field such as `float | Literal["auto"]`, or none.

    Their locations end in pydantic's name of the alternative.
    """
    location = fault["loc"]
    if not location or location[-1] in _field_names(owner, locate(location)[:-1]):
        return []
    place, value = location[:-1], repr(fault["input"])
    same = [each for each in faults if (each["loc"][:-1], repr(each["input"])) == (place, value)]
    return same if len(same) > 1 else []


def check_fields(record: Any, *, raises: type[GenetsError] = GenetsError) -> None:
    """Check a frozen dataclass against its annotations; call it first in `__post_init__`.

    `Annotated[int, Field(gt=0)]` limits a number. The check is strict: a bool is no integer and a
    text is no number, but an integer is a float, and a list becomes a tuple. A converted value
    replaces the one that was given.

    Args:
        record: The instance.
        raises: The class of the error.

    Raises:
        GenetsError: A value breaks the rule of its field; of class `raises`.
    """
    owner: Any = type(record)
    names, adapter = _fields_adapter(owner)
    values = tuple(_with_tuples(getattr(record, name)) for name in names)
    try:
        checked = adapter.validate_python(values)
    except ValidationError as error:

        def locate(location: Location) -> Location:
            return (names[int(location[0])], *location[1:])

        raise explain(error, owner, kind="field", raises=raises, locate=locate) from error
    for name, value in zip(names, checked, strict=True):
        object.__setattr__(record, name, value)


def to_plain(record: Any) -> dict[str, Any]:
    """Turn a dataclass into values that JSON holds.

    Tuples become lists and paths become text, and so does a class with a `text_schema`, such as
    a structure. `from_plain` is the inverse. The values are not checked.
    """
    owner: Any = type(record)
    adapter = _record_adapter(owner)
    values: dict[str, Any] = adapter.dump_python((record,), mode="json", warnings=False)[0]
    return values


def from_plain(
    owner: type[Record],
    values: Any,
    *,
    kind: str = "field",
    raises: type[GenetsError] = GenetsError,
) -> Record:
    """Make a dataclass, with the dataclasses in its fields, from values that JSON holds.

    The types must be those of `to_plain`: "1" and true are no integers. A field that is absent has
    its default; for a field without a default that older files lack, put one before the values:
    `from_plain(Owner, {"name": default, **values})`.

    Args:
        owner: The dataclass.
        values: Parsed JSON or TOML.
        kind: The word for a field in the message.
        raises: The class of the error.

    Returns:
        The instance; its `__post_init__` has run.

    Raises:
        GenetsError: A field is unknown, missing or wrong; of class `raises`, or the error that
            `__post_init__` raised.
    """
    hashable: Any = owner  # mypy does not know that classes are
    # As JSON, because only there the strict mode takes a list for a tuple.
    try:
        text = to_json([values], inf_nan_mode="constants")
    except PydanticSerializationError as error:  # a text with one half of a surrogate pair
        raise raises(f"the values of a {kind} cannot be written: {first_line(error)}") from error
    try:
        record: Record = _record_adapter(hashable).validate_json(text, strict=True)[0]
    except ValidationError as error:
        raise explain(error, owner, kind=kind, raises=raises, locate=lambda loc: loc[1:]) from error
    return record


def text_schema(owner: type[Any], parse: Callable[[str], Any]) -> CoreSchema:
    """Make a class stand as text in plain values: `str` writes it and `parse` reads it.

    A class of a layer that may not import pydantic returns it from its hook, with the import
    inside:

        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            from genets.core.validation import text_schema

            return text_schema(cls, cls.parse)
    """
    text = core_schema.no_info_after_validator_function(parse, core_schema.str_schema())
    return core_schema.json_or_python_schema(
        json_schema=text,
        python_schema=core_schema.is_instance_schema(owner),
        serialization=core_schema.to_string_ser_schema(),
    )


@cache
def _record_adapter(owner: Any) -> TypeAdapter[Any]:
    """For a tuple with one record, as pydantic takes no configuration for a dataclass itself."""
    return TypeAdapter(tuple[owner], config=ConfigDict(extra="forbid", allow_inf_nan=False))


@cache
def _fields_adapter(owner: Any) -> tuple[tuple[str, ...], TypeAdapter[Any]]:
    """The names of the fields, and an adapter for the tuple of their values."""
    hints = get_type_hints(owner, include_extras=True)
    names = tuple(field.name for field in dataclasses.fields(owner))
    kinds: Any = tuple[tuple(hints[name] for name in names)]  # type: ignore[misc]
    config = ConfigDict(strict=True, allow_inf_nan=False)
    return names, TypeAdapter(kinds, config=config)


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _field_names(owner: Any, location: Iterable[int | str]) -> list[str]:
    """The names that are allowed at a place inside a model or dataclass."""
    records = _records_in(owner)
    for part in location:
        inside = [hint for each in records for name, hint in _hints(each).items() if name == part]
        if inside:  # otherwise the part is the number of an item or the name of an alternative
            records = [each for hint in inside for each in _records_in(hint)]
    return [name for each in records for name in (*_hints(each), *getattr(each, "other_names", ()))]


def _records_in(hint: Any) -> list[type[Any]]:
    """The models and dataclasses in an annotation, such as the one in `tuple[Row, ...]`."""
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, BaseModel)):
        return [hint]
    return [each for argument in get_args(hint) for each in _records_in(argument)]


def _hints(record: type[Any]) -> dict[str, Any]:
    if issubclass(record, BaseModel):
        return {name: field.annotation for name, field in record.model_fields.items()}
    hints = get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}
