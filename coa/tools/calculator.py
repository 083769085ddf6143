"""The tool `calculate`: an arithmetic expression to its value, by a library that knows numbers and nothing else."""

import math
from typing import Any

from coa.errors import MissingExtraError
from coa.tools import ToolReply
from coa.trajectory import Outcome

MAX_CHARS = 200
"""Longer expressions are invalid: an expression of ten thousand brackets is no arithmetic."""
_MAX_BITS = 10_000
_FUNCTIONS = {
    **{
        name: getattr(math, name)
        for name in ("sqrt", "log", "log10", "log2", "exp", "sin", "cos", "tan")
    },
    **{name: getattr(math, name) for name in ("floor", "ceil", "radians", "degrees")},
    **{"abs": abs, "round": round, "min": min, "max": max},
}
_MISTAKES = (SyntaxError, ArithmeticError, LookupError, ValueError, TypeError)
"""What the library and the functions raise for expressions that make no sense."""
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
        self.fingerprint = f"simpleeval/{','.join(sorted([*_FUNCTIONS, *_NAMES]))}/{MAX_CHARS}chars"

    async def call(self, argument: str) -> ToolReply:
        """The value of the expression `argument`; what is none is INVALID and says why."""
        expression = argument.strip().replace("^", "**")
        if not expression or len(expression) > MAX_CHARS or {";", "\n"} & set(expression):
            return ToolReply(
                Outcome.INVALID, f"One expression of at most {MAX_CHARS} characters is needed."
            )
        evaluator = self._library.SimpleEval(
            operators=self._operators(), functions=_FUNCTIONS, names=_NAMES
        )
        try:
            value = evaluator.eval(expression)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not math.isfinite(value)
            ):
                return ToolReply(Outcome.INVALID, "The expression has no number as its value.")
            return ToolReply(Outcome.OK, _shown(value))
        except (self._library.InvalidExpression, *_MISTAKES) as error:
            return ToolReply(
                Outcome.INVALID, f"The expression cannot be computed: {_reason(error)}."
            )
        except (RecursionError, MemoryError):
            return ToolReply(Outcome.INVALID, "The expression cannot be computed: it is too large.")

    def _operators(self) -> dict[type, Any]:
        """Arithmetic alone: no texts to repeat, no lists, no bits."""
        import ast

        kept = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.UAdd)
        return {kind: self._library.DEFAULT_OPERATORS[kind] for kind in kept} | {ast.Pow: _power}


def _power(base: float, exponent: float) -> Any:
    """The library's own bound lets one power take seconds."""
    if isinstance(base, int) and abs(exponent) * base.bit_length() > _MAX_BITS:
        raise ValueError("the power is too large")
    return base**exponent


def _shown(value: int | float) -> str:
    """Whole numbers as they are; others with 12 significant digits, which hides the rounding of binary fractions."""
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.12g}"


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100].rstrip(".")
