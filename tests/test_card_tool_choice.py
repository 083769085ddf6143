"""The card of a model shows utility and the calls of each tool where its results have them."""

from typing import Any

from data_cards.cards.model_card import results_table
from data_cards.cards.trained import Result


def evaluated(setting: dict[str, Any], **metrics: float) -> Result:
    found = {}
    for name, value in metrics.items():
        found[name] = {"value": value, "low": value - 0.1, "high": value + 0.1, "num": 10}
    asked = {"split": "test", "mode": "coa", "search": "s", **setting}
    return Result("sft2", asked, found, 10, {}, {})


def test_utility_and_calls_have_columns_where_a_result_has_them() -> None:
    both = evaluated(
        {"tools": ["search", "calculate"], "search_price": 0.05},
        exact_match=0.5,
        actions=1.5,
        utility=0.4,
        calls_search=1.2,
        calls_calculate=0.3,
    )
    shown = " ".join(str(results_table([both])).split())
    assert "| actions | utility | calls of search | calls of calculate | search |" in shown
    assert "| 40.0 [30.0, 50.0] | 1.20 [1.10, 1.30] | 0.30 [0.20, 0.40] |" in shown


def test_results_of_search_alone_have_neither() -> None:
    one = evaluated({}, exact_match=0.5, actions=1.5)
    shown = " ".join(str(results_table([one])).split())
    assert "| F1 | searches | search |" in shown
    assert "utility" not in shown
