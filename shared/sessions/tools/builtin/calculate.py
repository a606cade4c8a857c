"""The tool `calculate`: arithmetic, and nothing but arithmetic.

Number rules: integers are exact. A number with a point or an exponent is a decimal, so 0.1 + 0.2 is 0.3. `/` of two
integers is an integer if it divides evenly. `//` and `%` floor, with the sign of the divisor. round() rounds halves
away from zero. Decimals are computed with 50 digits and shown with 28; trigonometry has the 15 digits of a float.

Invariant: the expression is never executed. It is parsed, and every node of the tree must be in the allow-list below.
Size, depth and magnitude are bounded before any computation, so an evaluation always ends within milliseconds.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)

from pydantic import Field

from shared.errors import ToolFailed
from shared.sessions.tools.base import ToolArguments, ToolOutput, tool

MAX_EXPRESSION_CHARS = 500
MAX_DEPTH = 60
MAX_DIGITS = 1_000
"""Of an integer; decimals have the same range, in both directions."""
MAX_FACTORIAL = 400  # 400! has 869 digits
_SHOWN_DIGITS = 28
_PLAIN_EXPONENT = 21

type Number = int | Decimal

_CONTEXT = Context(prec=50, Emax=MAX_DIGITS, Emin=-MAX_DIGITS, traps=[InvalidOperation, DivisionByZero, Overflow])
_ALLOWED_CHARS = re.compile(r"[0-9A-Za-z_.+\-*/%(),\[\] ]*")
_GLUED = re.compile(r"[\d.](?![eE][+-]?\d)[A-Za-z]")
"""A number followed directly by letters ("2pi", "1if"), which Python would parse in its own way."""
_INT_LIMIT = 10**MAX_DIGITS
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582")
_E = Decimal("2.71828182845904523536028747135266249775724709369995957")


class CalculationError(Exception):
    """The expression has no result here; the message is for the model."""


class CalculateArguments(ToolArguments):
    expression: str = Field(
        min_length=1,
        max_length=MAX_EXPRESSION_CHARS,
        description="Arithmetic such as (17 * 23 + 4) / 3. Operators + - * / // % ** and ^ for powers;"
        " functions sqrt cbrt abs round floor ceil min max sum exp ln log log2 log10 sin cos tan asin acos atan"
        " radians degrees factorial gcd; constants pi, e, tau.",
    )


@tool(idempotent=True, risks=(), timeout_s=5)
def calculate(arguments: CalculateArguments) -> ToolOutput:
    """Evaluate an arithmetic expression exactly. Use it for any calculation instead of guessing."""
    try:
        result = show(evaluate(arguments.expression))
    except CalculationError as exc:
        raise ToolFailed(str(exc)) from None
    return ToolOutput(
        f"{arguments.expression.strip()} = {result}",
        {"expression": arguments.expression, "result": result},
    )


def evaluate(expression: str) -> Number:
    """The value of an expression. Raises CalculationError."""
    source = _normalised(expression)
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise CalculationError(
            "That is not an arithmetic expression I can read. Write, for example, (17 * 23 + 4) / 3."
        ) from None
    try:
        with localcontext(_CONTEXT):
            return _value(tree.body, source, MAX_DEPTH)
    except ZeroDivisionError:  # includes Decimal's DivisionByZero
        raise CalculationError("Division by zero.") from None
    except (Overflow, OverflowError):
        raise CalculationError(_TOO_LARGE) from None
    except (DecimalException, ValueError):
        raise CalculationError("That has no result among the real numbers.") from None


def show(value: Number) -> str:
    """A number as people write it: 391, 0.3, 1.5e+30."""
    if isinstance(value, int):
        return str(value)
    with localcontext(prec=_SHOWN_DIGITS, Emax=2 * MAX_DIGITS, Emin=-2 * MAX_DIGITS):
        rounded = +value
    if rounded == 0:
        return "0"
    # normalize() would round to the ambient precision; the shown digits are already chosen.
    text = format(rounded, "f") if abs(rounded.adjusted()) < _PLAIN_EXPONENT else format(rounded, "e")
    mantissa, sign, exponent = text.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + sign + exponent


_TOO_LARGE = f"The result, or a step towards it, has more than {MAX_DIGITS} digits."
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "\n": " ", "\t": " ", "\r": " "})


def _normalised(expression: str) -> str:
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise CalculationError(f"The expression is longer than {MAX_EXPRESSION_CHARS} characters.")
    # Python's `^` binds less tightly than `+`. Here it means power, so it is replaced before parsing.
    source = expression.translate(_SIGNS).replace("^", "**").strip().removesuffix("=").strip()
    if not _ALLOWED_CHARS.fullmatch(source):
        wrong = next(char for char in source if not _ALLOWED_CHARS.fullmatch(char))
        raise CalculationError(f"The character {wrong!r} has no place in an arithmetic expression.")
    if glued := _GLUED.search(source):
        raise CalculationError(f"Something is missing in {glued.group()!r}; write 2 * pi, not 2pi.")
    return source


def _value(node: ast.expr, source: str, depth: int) -> Number:
    if depth == 0:
        raise CalculationError("The expression is nested too deeply.")
    match node:
        case ast.Constant(value=value):
            return _literal(value, node, source)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, source, depth - 1)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, source, depth - 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            a = _value(left, source, depth - 1)
            b = _value(right, source, depth - 1)
            return _checked(_OPERATORS[type(op)](a, b))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _call(name, _arguments(args, source, depth - 1))
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            raise CalculationError(f"I do not know {name[:40]!r}. Functions: {', '.join(sorted(_FUNCTIONS))}.")
        case ast.Tuple():
            raise CalculationError("A comma stands only between arguments; write 1000, not 1,000.")
    raise CalculationError("Only numbers, + - * / // % **, parentheses and the listed functions are allowed.")


def _arguments(nodes: Sequence[ast.expr], source: str, depth: int) -> list[Number]:
    if len(nodes) == 1 and isinstance(nodes[0], ast.List | ast.Tuple):
        nodes = nodes[0].elts
    return [_value(node, source, depth) for node in nodes]


def _literal(value: object, node: ast.expr, source: str) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CalculationError("Only ordinary numbers are allowed.")
    if isinstance(value, int):
        return _checked(value)
    # From the source text, since the float has lost digits. The source is ASCII, so columns are characters.
    return _CONTEXT.create_decimal(source[node.col_offset : node.end_col_offset])


def _checked(value: Number) -> Number:
    if isinstance(value, int) and not -_INT_LIMIT < value < _INT_LIMIT:
        raise CalculationError(_TOO_LARGE)
    if isinstance(value, Decimal) and not value.is_finite():
        raise CalculationError("That has no finite result.")
    return value


def _divide(a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int) and b != 0 and a % b == 0:
        return a // b
    return _decimal(a) / _decimal(b)


def _floor_divide(a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return _divmod(_decimal(a), _decimal(b))[0]


def _modulo(a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    return _divmod(_decimal(a), _decimal(b))[1]


def _divmod(a: Decimal, b: Decimal) -> tuple[Decimal, Decimal]:
    if b == 0:
        raise ZeroDivisionError
    quotient, remainder = divmod(a, b)  # truncates; adjusted below to floor, as for integers
    if remainder != 0 and (remainder < 0) != (b < 0):
        return quotient - 1, remainder + b
    return quotient, remainder


def _power(a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int) and b >= 0:
        if abs(a) > 1 and (abs(a).bit_length() - 1) * b > _INT_LIMIT.bit_length():
            raise CalculationError(_TOO_LARGE)
        return int(a**b)
    return _decimal(a) ** _decimal(b) if b else 1


def _decimal(value: Number) -> Decimal:
    return _CONTEXT.create_decimal(value)


_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: _divide,
    ast.FloorDiv: _floor_divide,
    ast.Mod: _modulo,
    ast.Pow: _power,
}


def _call(name: str, values: list[Number]) -> Number:
    function, least, most = _FUNCTIONS[name]
    if not least <= len(values) <= most:
        raise CalculationError(f"{name} does not take {len(values)} arguments.")
    return _checked(function(values))


def _whole(value: Number, name: str) -> int:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if not isinstance(value, int):
        raise CalculationError(f"{name} takes whole numbers.")
    return value


def _sqrt(values: list[Number]) -> Number:
    value = values[0]
    if isinstance(value, int) and value >= 0 and math.isqrt(value) ** 2 == value:
        return math.isqrt(value)
    return _decimal(value).sqrt()


def _cbrt(values: list[Number]) -> Number:
    value = _decimal(values[0])
    root = (abs(value) ** (Decimal(1) / 3)).copy_sign(value) if value else value
    whole = root.to_integral_value()
    return int(whole) if whole**3 == value else root


def _round(values: list[Number]) -> Number:
    digits = _whole(values[1], "round") if len(values) == 2 else 0
    if abs(digits) > _SHOWN_DIGITS:
        raise CalculationError(f"round takes at most {_SHOWN_DIGITS} digits.")
    # Halves round away from zero, as taught at school. Wide context, since digits before the point count too.
    with localcontext(prec=2 * MAX_DIGITS, rounding=ROUND_HALF_UP):
        rounded = Decimal(values[0]).quantize(Decimal(1).scaleb(-digits))
    return int(rounded) if digits <= 0 else rounded


def _log(values: list[Number]) -> Number:
    value = _decimal(values[0])
    if len(values) == 1:
        return value.ln()
    base = _decimal(values[1])
    if base == 10:
        return value.log10()
    return value.ln() / base.ln()


def _factorial(values: list[Number]) -> Number:
    n = _whole(values[0], "factorial")
    if not 0 <= n <= MAX_FACTORIAL:
        raise CalculationError(f"factorial takes 0 to {MAX_FACTORIAL}.")
    return math.factorial(n)


def _to_int(how: str) -> Callable[[list[Number]], Number]:
    def convert(values: list[Number]) -> Number:
        value = values[0]
        return value if isinstance(value, int) else int(value.to_integral_value(rounding=how))

    return convert


def _by_float(function: Callable[[float], float]) -> Callable[[list[Number]], Number]:
    def convert(values: list[Number]) -> Number:
        # Rounded to a float's precision: sin(pi) is 0, not 1.2e-16.
        return _decimal(Decimal(repr(round(function(float(values[0])), 15))))

    return convert


def _abs(values: list[Number]) -> Number:
    value = values[0]
    return -value if value < 0 else value


def _total(values: list[Number]) -> Number:
    total: Number = 0
    for value in values:
        total += value
    return total


_MANY = MAX_EXPRESSION_CHARS
_FUNCTIONS: dict[str, tuple[Callable[[list[Number]], Number], int, int]] = {
    "sqrt": (_sqrt, 1, 1),
    "cbrt": (_cbrt, 1, 1),
    "abs": (_abs, 1, 1),
    "round": (_round, 1, 2),
    "floor": (_to_int("ROUND_FLOOR"), 1, 1),
    "ceil": (_to_int("ROUND_CEILING"), 1, 1),
    "min": (lambda values: min(values), 1, _MANY),
    "max": (lambda values: max(values), 1, _MANY),
    "sum": (_total, 0, _MANY),
    "exp": (lambda values: _decimal(values[0]).exp(), 1, 1),
    "ln": (_log, 1, 1),
    "log": (_log, 1, 2),
    "log2": (lambda values: _log([values[0], 2]), 1, 1),
    "log10": (lambda values: _decimal(values[0]).log10(), 1, 1),
    "sin": (_by_float(math.sin), 1, 1),
    "cos": (_by_float(math.cos), 1, 1),
    "tan": (_by_float(math.tan), 1, 1),
    "asin": (_by_float(math.asin), 1, 1),
    "acos": (_by_float(math.acos), 1, 1),
    "atan": (_by_float(math.atan), 1, 1),
    "radians": (lambda values: _decimal(values[0]) * _PI / 180, 1, 1),
    "degrees": (lambda values: _decimal(values[0]) * 180 / _PI, 1, 1),
    "factorial": (_factorial, 1, 1),
    "gcd": (lambda values: math.gcd(*(_whole(value, "gcd") for value in values)), 1, _MANY),
}
_CONSTANTS: dict[str, Number] = {"pi": _PI, "e": _E, "tau": 2 * _PI}
