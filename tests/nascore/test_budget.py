import pytest
from pydantic import ValidationError

from nascore.config import BudgetConfig


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("30m", "seconds", 1800),
        ("2h", "seconds", 7200),
        ("90s", "seconds", 90),
        ("1.5 hours", "seconds", 5400),
        ("64 children", "children", 64),
        ("1 child", "children", 1),
        ("5000 steps", "steps", 5000),
        ("2 gpu-hours", "gpu_hours", 2),
        ("0.5 GPU hours", "gpu_hours", 0.5),
        ("1 gpu_hour", "gpu_hours", 1),
        ("1e3 steps", "steps", 1000),
    ],
)
def test_a_budget_is_read_from_text(text: str, unit: str, amount: float) -> None:
    budget = BudgetConfig.model_validate(text)
    assert (budget.unit, budget.amount) == (unit, amount)


@pytest.mark.parametrize(
    "text", ["30", 30, "m", "", "0 steps", "-3m", "inf h", "3 days", "..m", "1e steps", "3m 2"]
)
def test_any_other_text_is_refused_with_examples(text: object) -> None:
    with pytest.raises(ValidationError, match="write 30m, 2h, 90s, 64 children, 5000 steps or 2"):
        BudgetConfig.model_validate(text)


def test_half_a_child_is_refused() -> None:
    with pytest.raises(ValidationError, match="valid integer"):
        BudgetConfig.model_validate("2.5 children")
