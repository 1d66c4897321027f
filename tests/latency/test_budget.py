import pytest

from genets.core.errors import TargetError
from genets.latency import Budget


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("0.2ms", 0.2, "ms"),
        (" 150 us ", 0.15, "ms"),
        ("150µs", 0.15, "ms"),
        ("0.5x", 0.5, "x"),
        ("1e-1ms", 0.1, "ms"),
        (".5x", 0.5, "x"),
    ],
)
def test_parse(text: str, amount: float, unit: str) -> None:
    budget = Budget.parse(text)
    assert budget.amount == pytest.approx(amount, rel=1e-15)
    assert budget.unit == unit
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.2", "has no unit; give it in ms or us per image, or x"),
        ("2h", "unknown unit 'h' in budget '2h'"),
        ("2MS", "unknown unit 'MS'"),
        ("2 m s", "budget must be a number in ms"),
        ("0ms", "budget must be above 0 and finite, not 0ms"),
        ("-1ms", "budget must be above 0 and finite, not -1ms"),
        ("nanms", "above 0 and finite, not nanms"),
        ("infx", "above 0 and finite, not infx"),
        ("1e999ms", "above 0 and finite, not 1e999ms"),
        ("1e-999us", "above 0 and finite, not 1e-999us"),
        ("ms", "budget must be a number in ms"),
        ("", "budget must be a number in ms"),
        ("1_0ms", "unknown unit '_0ms'|budget must be a number in ms"),
        ("0x10ms", "budget must be a number in ms|unknown unit"),
    ],
)
def test_wrong_budget(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Budget.parse(text)


def test_relative_budget_is_in_master_latencies() -> None:
    assert Budget.parse("0.5x").ms_per_image(0.3) == 0.15
    assert Budget.parse("0.5ms").ms_per_image(0.3) == 0.5
