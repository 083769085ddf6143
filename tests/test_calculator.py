"""The calculator: arithmetic is computed, all else is refused and never run."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.records.trajectory import Outcome
from coa.tools import Tool, ToolReply
from coa.tools.calculator import MAX_CHARS, Calculator


def call(expression: str) -> ToolReply:
    tool: Tool = Calculator()
    return asyncio.run(tool.call(expression))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("2^10", "1024"),
        ("0.1 + 0.2", "0.3"),
        ("10 / 4", "2.5"),
        ("6 / 3", "2"),
        ("1900 - 1874", "26"),
        ("-3", "-3"),
        ("7 // 2", "3"),
        ("7 % 2", "1"),
        ("sqrt(2)", "1.41421356237"),
        ("round(2.567, 2)", "2.57"),
        ("round(1234, -2)", "1200"),
        ("round(2.567, ndigits=1)", "2.6"),
        ("abs((-8) ** 0.5)", "2.82842712475"),
        ("max(1, 2)", "2"),
        ("2 * pi", "6.28318530718"),
        ("10**20", "1" + "0" * 20),
    ],
)
def test_arithmetic_is_computed(expression: str, value: str) -> None:
    assert call(expression) == ToolReply(Outcome.OK, value)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "1/0",
        "a",
        "abs",
        "(1",
        "1 2",
        "1; 2",
        "1\n2",
        "1 == 1",
        "'a' * 9",
        "[1] * 9",
        "{1: 2}",
        "f'{1}'",
        "1e308 * 10",
        "'%9999999999d' % 1",
        "(10**3000).to_bytes(9999999999)",
        "f'{1:9999999999}'",
        "a = 1",
        "round(2, 'x')",
        "__import__('os').system('id')",
        "(1).__class__",
        "lambda: 1",
        "open('/etc/passwd')",
        "[x for x in (1, 2)]",
        "(-8) ** 0.5",
        "10**5000",
        "sqrt(-1)",
        "1" * (MAX_CHARS + 1),
        "round(1, 2, 3)",
        "\0",
        "x := 1",
        "1 if a else 2",
    ],
)
def test_what_is_no_arithmetic_is_invalid_and_says_so(expression: str) -> None:
    reply = call(expression)
    assert reply.outcome is Outcome.INVALID
    assert reply.text.endswith(".")


LARGE = "*".join(["9**3000"] * 20)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9**9",
        "9**99999999",
        "4000000**4000000",
        "9**999*9**999*9**999*9**999",
        "round(7, -9**9)",
        "round(7, ndigits=-9**9)",
        "round(9**999, 9**9)",
        "round(7, -9**999)",
        f"{LARGE}%7**3000",
        f"{LARGE}//(9**2900-1)",
        f"sqrt({LARGE})",
        f"round({LARGE}, -400)",
        "(" * 99 + "1" + ")" * 99,
        "-" * 199 + "1",
        "max(" * 39 + "1" + ")" * 39,
    ],
)
def test_no_expression_takes_long(expression: str) -> None:
    assert len(expression) <= MAX_CHARS
    started = time.process_time()
    reply = call(expression)
    assert time.process_time() - started < 0.5
    assert reply.outcome in (Outcome.OK, Outcome.INVALID)


@given(st.text(max_size=60) | st.text("0123456789.+-*/()% ^eabs,", max_size=60))
def test_any_text_gets_a_reply(expression: str) -> None:
    assert call(expression).outcome in (Outcome.OK, Outcome.INVALID)
