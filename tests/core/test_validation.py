"""Validation: settings and records, whose faults are one sentence each."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import pytest
from pydantic import Field, GetPydanticSchema, ValidationError, model_validator

from genets.core.errors import GenetsError, SettingsError, StudyError, TargetError
from genets.core.validation import (
    SettingsModel,
    StrictModel,
    check_fields,
    explain,
    from_plain,
    text_schema,
    to_plain,
)
from genets.structure import Structure, zoo

Notation = Annotated[
    Structure, GetPydanticSchema(lambda source, handler: text_schema(source, Structure.parse))
]


@dataclass(frozen=True, slots=True)
class Colour:
    """A class whose text form is its own business, as a structure's is."""

    red: int

    @classmethod
    def parse(cls, text: str) -> Self:
        if not text.startswith("red"):
            raise GenetsError(f"a colour is written as red3, not {text!r}")
        return cls(int(text[3:]))

    def __str__(self) -> str:
        return f"red{self.red}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from genets.core.validation import text_schema

        return text_schema(cls, cls.parse)


@dataclass(frozen=True, slots=True)
class Target:
    batch_size: Annotated[int, Field(gt=0, le=65536)] = 64
    threads: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_fields(self, raises=TargetError)
        if self.device != "cpu" and self.threads is not None:
            raise TargetError("threads are for a CPU")


@dataclass(frozen=True)
class Recipe:
    """A record that is checked when it is made, as those that people write are."""

    epochs: Annotated[int, Field(gt=0)]
    crop_area: tuple[float, float] = (0.08, 1.0)
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    compile: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    target: Target = field(default_factory=Target)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Candidate:
    structure: Notation
    target: Target
    samples_ms: tuple[float, ...]
    files: dict[str, Path]
    colours: tuple[Colour, ...] = ()
    others: tuple[Target, ...] = ()
    accuracy: float | None = None
    status: Literal["done", "failed"] = "done"


CANDIDATE = Candidate(
    zoo["genet_large"],
    Target(1, 2),
    (0.1 + 0.2, 1e-300),
    {"weights": Path("results/w.safetensors")},
    (Colour(3),),
    (Target(), Target(8)),
    accuracy=0.75,
)
PLAIN = to_plain(CANDIDATE)


def fault(values: Any, **options: Any) -> str:
    with pytest.raises(GenetsError) as caught:
        from_plain(Candidate, values, **options)
    return str(caught.value)


def test_a_record_survives_json() -> None:
    assert PLAIN["structure"] == str(zoo["genet_large"])
    assert PLAIN["files"] == {"weights": "results/w.safetensors"}
    assert PLAIN["colours"] == ["red3"]
    assert PLAIN["others"][1] == {"batch_size": 8, "threads": None, "device": "cpu"}
    assert list(PLAIN)[:2] == ["structure", "target"], "in the order of the fields"
    assert from_plain(Candidate, json.loads(json.dumps(PLAIN, allow_nan=False))) == CANDIDATE


def test_optional_fields_of_older_files_have_their_defaults() -> None:
    older = {name: PLAIN[name] for name in ("structure", "target", "samples_ms", "files")}
    expected = replace(CANDIDATE, colours=(), others=(), accuracy=None)
    assert from_plain(Candidate, older) == expected
    del older["files"]
    assert fault(older) == "field files must be given"
    assert from_plain(Candidate, {"files": {}, **older}) == replace(expected, files={})


def test_unknown_keys_are_refused() -> None:
    assert fault({**PLAIN, "acuracy": 1}).startswith("unknown field 'acuracy'; did you mean accu")
    assert "did you mean target.device" in fault({**PLAIN, "target": {"devise": "cpu"}})
    assert "did you mean others.0.threads" in fault({**PLAIN, "others": [{"thread": 1}]})
    assert "unknown setting 'x'; valid names are " in fault({**PLAIN, "x": 1}, kind="setting")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"accuracy": "0.5"}, "accuracy must be a valid number, not '0.5'"),
        ({"accuracy": math.nan}, "accuracy must be a finite number, not nan"),
        ({"samples_ms": [1, math.inf]}, "samples_ms.1 must be a finite number, not inf"),
        ({"status": "gone"}, "status must be 'done' or 'failed', not 'gone'"),
        ({"target": {"batch_size": True}}, "target.batch_size must be a valid integer, not True"),
        ({"target": {"batch_size": 0}}, "target.batch_size must be greater than 0, not 0"),
        ({"target": {"device": "cuda", "threads": 1}}, "threads are for a CPU"),
        ({"target": 3}, "target must be an object, not 3"),
        (
            {"structure": "Conv"},
            "stage 1 'Conv', character 4: kernel must be a whole number, not the end of the stage",
        ),
        ({"structure": 3}, "structure must be a valid string, not 3"),
        ({"colours": ["blue"]}, "a colour is written as red3, not 'blue'"),
    ],
)
def test_a_wrong_value_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert fault({**PLAIN, **changes}) == sentence


@pytest.mark.parametrize("values", [3, None, [], "text"])
def test_foreign_values_are_one_sentence(values: Any) -> None:
    assert fault(values).startswith("Candidate must be an object, not ")
    with pytest.raises(StudyError, match="must be an object"):
        from_plain(Candidate, values, raises=StudyError)


def test_a_text_that_is_not_unicode_is_one_sentence() -> None:
    with pytest.raises(StudyError, match=r"values of a field cannot be written: .*surrogates"):
        from_plain(Candidate, {**PLAIN, "structure": "\ud800"}, raises=StudyError)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": True}, "epochs must be a valid integer, not True"),
        ({"epochs": "3"}, "epochs must be a valid integer, not '3'"),
        ({"epochs": 2.0}, "epochs must be a valid integer, not 2.0"),
        ({"epochs": 0}, "epochs must be greater than 0, not 0"),
        ({"epochs": 1, "learning_rate": math.inf}, "learning_rate must be a finite number"),
        ({"epochs": 1, "learning_rate": 10**400}, "learning_rate must be a"),
        ({"epochs": 1, "learning_rate": False}, "learning_rate must be a valid number, not False"),
        ({"epochs": 1, "compile": 1}, "compile must be a valid boolean, not 1"),
        ({"epochs": 1, "precision": "fp64"}, "precision must be 'fp32' or 'bf16', not 'fp64'"),
        ({"epochs": 1, "crop_area": [0.5, "x"]}, "crop_area.1 must be a valid number, not 'x'"),
        ({"epochs": 1, "target": {}}, "target must be "),
    ],
)
def test_a_dataclass_is_checked_when_it_is_made(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GenetsError) as caught:
        Recipe(**values)
    assert str(caught.value).startswith(sentence)


def test_a_dataclass_keeps_converted_values_and_its_own_error() -> None:
    crop: Any = [1, 1]
    recipe = Recipe(3, crop, learning_rate=1)
    assert (recipe.crop_area, recipe.learning_rate) == ((1.0, 1.0), 1.0)
    assert type(recipe.learning_rate) is type(recipe.crop_area[0]) is float
    assert from_plain(Recipe, to_plain(recipe)) == recipe
    with pytest.raises(TargetError, match="batch_size must be less than or equal to 65536"):
        replace(recipe.target, batch_size=10**6)


class Training(StrictModel):
    epochs: Annotated[int, Field(gt=0)] = 36
    warmup_epochs: float = 1.0

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise SettingsError("warmup_epochs must be below epochs")
        return self


class Search(SettingsModel):
    other_names: ClassVar[tuple[str, ...]] = ("resolution",)

    data: str = Field(min_length=1)
    training: Training = Training()
    rounds: tuple[Training, ...] = ()
    colour: Colour = Colour(0)

    @model_validator(mode="before")
    @classmethod
    def _drop_resolution(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name != "resolution"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "setting data must be given"),
        ({"data": "d", "training": {"epochs": "x"}}, "training.epochs must be a valid integer"),
        ({"data": "d", "training": {"epochs": 0}}, "training.epochs must be greater than 0, not 0"),
        ({"data": "d", "training": {"warmup_epochs": 99}}, "warmup_epochs must be below epochs"),
        ({"data": "d", "training": {"epoch": 1}}, "unknown setting 'training.epoch'; did you mean"),
        ({"data": "d", "rounds": [{"epoch": 1}]}, "unknown setting 'rounds.0.epoch'; did you mean"),
        ({"dta": "d"}, "unknown setting 'dta'; did you mean data"),
        ({"data": "d", "resolutio": 1}, "unknown setting 'resolutio'; did you mean resolution"),
        ({"data": ""}, "data must have at least 1 character, not ''"),
    ],
)
def test_settings_are_explained(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Search(**values)
    assert str(caught.value).startswith(sentence)


def test_settings_take_texts_from_a_command_line_and_are_frozen() -> None:
    values: dict[str, Any] = {"data": "d", "training": {"epochs": "40"}, "resolution": 32}
    search = Search(**values)
    assert search.training.epochs == 40
    with pytest.raises(ValidationError, match="frozen"):
        search.data = "e"


def test_a_plain_value_error_of_a_validator_is_explained() -> None:
    class Even(StrictModel):
        number: int

        @model_validator(mode="after")
        def _is_even(self) -> Self:
            if self.number % 2:
                raise ValueError("Must be even")
            return self

    with pytest.raises(ValidationError) as caught:
        Even(number=3)
    error = explain(caught.value, Even, raises=StudyError)
    assert type(error) is StudyError
    assert str(error) == "Even must be even, not {'number': 3}"
