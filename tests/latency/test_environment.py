"""The conditions under which a latency was measured."""

from typing import Any

import pytest

from genets.latency.environment import differing_conditions

HERE = {
    "device_name": "AMD EPYC", "threads": 2, "capability": "AVX512", "nominal_mhz": 2600,
    "instruction_sets": ["avx2", "avx512f"], "onednn_max_isa": None,
    "packages": {"torch": "2.11", "timm": "1.0"}, "load_average": 0.3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {}),
        ({"load_average": 7.0, "governor": "powersave"}, {}),
        ({"threads": 1}, {"threads": (1, 2)}),
        (
            {"instruction_sets": ["avx2"]},
            {"instruction sets": (["avx2"], HERE["instruction_sets"])},
        ),
        ({"onednn_max_isa": "AVX2"}, {"limit of oneDNN's instruction sets": ("AVX2", None)}),
        ({"nominal_mhz": 2595}, {}),
        ({"nominal_mhz": 3400}, {"nominal clock": ("3400 MHz", "2600 MHz")}),
        ({"nominal_mhz": None}, {}),
        ({"packages": {"torch": "2.10", "timm": "1.0"}}, {"torch": ("2.10", "2.11")}),
        ({"packages": {"torch": "2.11"}}, {"timm": (None, "1.0")}),
        ({"driver": "550.1"}, {"driver": ("550.1", None)}),
    ],
)
def test_conditions_that_differ_are_named(changes: Any, found: Any) -> None:
    assert differing_conditions(HERE | changes, HERE) == found


def test_a_condition_that_was_not_recorded_is_not_compared() -> None:
    old = {"device_name": "AMD EPYC", "threads": 2, "packages": HERE["packages"]}
    assert differing_conditions(old, HERE) == {}


def test_only_the_given_packages_are_compared() -> None:
    stored = HERE | {"packages": {"torch": "2.11", "timm": "0.9"}}
    assert differing_conditions(stored, HERE, ["torch"]) == {}
    assert differing_conditions(stored, HERE, ["torch", "timm"]) == {"timm": ("0.9", "1.0")}
