"""Compute arithmetic expressions in bounded time, for the tool `calculate`.

An expression of at most `MAX_CHARS` characters has fewer operations. Only numbers are computed
with, and a power or a rounding that would need a larger number is refused before it is computed, so
a number has at most `_MAX_BITS` bits for each power that is multiplied in it.
"""

import ast
import math
from collections.abc import Callable
from typing import Any

from coa.errors import MissingExtraError
from coa.records.trajectory import Outcome
from coa.tools import ToolReply

MAX_CHARS = 200
"""Longer expressions are invalid: nobody needs an expression of ten thousand brackets."""
_MAX_BITS = 10_000
"""Largest number of bits in a power of whole numbers."""
_MAX_ROUNDING = 400
"""Largest number of digits to round to, more than any float has. `round(7, -9**9)` would compute
ten to that power."""
_NODES = (
    ast.Expr,
    ast.BinOp,
    ast.UnaryOp,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Constant,
)
"""The parts an expression may have. Attributes and f-strings could make a text of a gigabyte."""
_SIGNS = (ast.UAdd, ast.USub)
_OPERATORS: tuple[type, ...] = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, *_SIGNS)
_MISTAKES = (SyntaxError, ArithmeticError, LookupError, ValueError, TypeError)
"""Errors that the library and the functions raise for expressions that make no sense."""
_NAMES = {"pi": math.pi, "e": math.e}


class Calculator:
    """Arithmetic with + - * / // % ** and brackets and the functions of a pocket calculator."""

    name = "calculate"

    def __init__(self) -> None:
        try:
            import simpleeval
        except ImportError:
            raise MissingExtraError("simpleeval", "tools") from None
        self._library: Any = simpleeval
        plain = {kind: _checked(simpleeval.DEFAULT_OPERATORS[kind]) for kind in _OPERATORS}
        self._operators: dict[type, Any] = {**plain, ast.Pow: _checked(_power)}
        self.fingerprint = f"simpleeval/{','.join(sorted([*_FUNCTIONS, *_NAMES]))}/{MAX_CHARS}chars"

    async def call(self, argument: str) -> ToolReply:
        """Compute the value of the expression `argument`.

        What is not an expression, or has no number as its value, is INVALID; the reply says why.
        """
        expression = argument.strip().replace("^", "**")
        has_separator = ";" in expression or "\n" in expression
        if not expression or len(expression) > MAX_CHARS or has_separator:
            return ToolReply(
                Outcome.INVALID, f"One expression of at most {MAX_CHARS} characters is needed."
            )
        evaluator = self._library.SimpleEval(
            operators=self._operators, functions=_FUNCTIONS, names=_NAMES
        )
        evaluator.nodes = {kind: evaluator.nodes[kind] for kind in _NODES}
        try:
            value = evaluator.eval(expression)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value):
                return ToolReply(Outcome.INVALID, "The expression has no number as its value.")
            return ToolReply(Outcome.OK, _shown(value))
        except (self._library.InvalidExpression, *_MISTAKES) as error:
            return ToolReply(
                Outcome.INVALID, f"The expression cannot be computed: {_reason(error)}."
            )
        except (RecursionError, MemoryError):
            return ToolReply(Outcome.INVALID, "The expression cannot be computed: it is too large.")


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Restrict a function to numbers: `%` would also fill a text with a billion blanks."""

    def call(*operands: Any, **named: Any) -> Any:
        for operand in (*operands, *named.values()):
            if not isinstance(operand, int | float | complex):
                raise TypeError("only numbers can be computed with")
        return function(*operands, **named)

    return call


def _power(base: float, exponent: float) -> Any:
    """Raise to a power; the library's own bound lets one power take seconds."""
    if isinstance(base, int) and abs(exponent) * base.bit_length() > _MAX_BITS:
        raise ValueError("the power is too large")
    return base**exponent


def _round(number: float, ndigits: int | None = None) -> Any:
    if ndigits is not None and abs(ndigits) > _MAX_ROUNDING:
        raise ValueError(f"a number is rounded to at most {_MAX_ROUNDING} digits")
    return round(number, ndigits)


_MATHS = "sqrt log log10 log2 exp sin cos tan floor ceil radians degrees"
_FUNCTIONS = {
    **{name: _checked(getattr(math, name)) for name in _MATHS.split()},
    "abs": _checked(abs),
    "min": _checked(min),
    "max": _checked(max),
    "round": _checked(_round),
}


def _shown(value: int | float) -> str:
    """Write whole numbers as they are, others with 12 significant digits.

    Fewer digits than a float has hide the rounding of binary fractions.
    """
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.12g}"


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    first = lines[0] if lines else type(error).__name__
    return first[:100].rstrip(".")
