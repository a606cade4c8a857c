from __future__ import annotations

import ast
import contextlib
import string
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ErrorCode, ToolFailed
from shared.sessions.tools.base import ToolContext
from shared.sessions.tools.builtin.calculate import (
    MAX_DIGITS,
    MAX_EXPRESSION_CHARS,
    CalculateArguments,
    CalculationError,
    calculate,
    evaluate,
    show,
)


def value_of(expression: str) -> str:
    return show(evaluate(expression))


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("17 * 23", "391"),
        ("  2 + 2 = ", "4"),
        ("2^10", "1024"),
        ("2 + 3^2", "11"),
        ("6 × 7 ÷ 2 − 1", "20"),
        ("1_000 * 2", "2000"),
        ("10 / 5", "2"),
        ("10 / 4", "2.5"),
        ("1/3*3", "1"),
        ("0.1 + 0.2", "0.3"),
        ("-7 // 2", "-4"),
        ("-7.5 // 2", "-4"),
        ("-7.5 % 2", "0.5"),
        ("7.5 % -2", "-0.5"),
        ("2 ** -1", "0.5"),
        ("0.0 ** 0", "1"),
        ("sqrt(16)", "4"),
        ("sqrt(2)", "1.414213562373095048801688724"),
        ("cbrt(-8)", "-2"),
        ("sin(pi)", "0"),
        ("sin(pi / 6)", "0.5"),
        ("log(100, 10)", "2"),
        ("log2(8)", "3"),
        ("ln(e)", "1"),
        ("round(2.5)", "3"),
        ("round(2.345, 2)", "2.35"),
        ("round(1250, -2)", "1300"),
        ("floor(-2.5) + ceil(-2.5)", "-5"),
        ("max(1, [2][0] if 0 else 3)", None),
        ("max([1, 2, 3]) + min(4, 5) + sum(1, 2)", "10"),
        ("factorial(20)", "2432902008176640000"),
        ("gcd(12, 18)", "6"),
        ("1.5e30", "1.5e+30"),
        ("1e-30", "1e-30"),
        ("100 * 1.0", "100"),
        ("10**999", str(10**999)),
    ],
)
def test_an_expression_gives_its_value_or_is_refused(expression: str, result: str | None) -> None:
    if result is None:
        with pytest.raises(CalculationError):
            evaluate(expression)
    else:
        assert value_of(expression) == result


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("__import__('os').system('id')", "no place"),
        ("().__class__", "missing|allowed"),
        ("(1).real", "missing|allowed"),
        ("[x for x in [1]]", "allowed"),
        ("lambda: 1", "no place"),
        ("1 if 2 else 3", "allowed"),
        ("1 < 2", "no place"),
        ("5(3)", "allowed"),
        ("True", "ordinary numbers"),
        ("1j", "missing"),
        ("2pi", "missing"),
        ("0x1f", "missing"),
        ("open(1)", "do not know 'open'"),
        ("x + 1", "do not know 'x'"),
        ("max(1, key=2)", "no place"),
        ("max(*[1])", "allowed"),
        ("1,000 + 1", "write 1000"),
        ("007", "cannot|can read"),
        ("", "can read"),
        ("1 / 0", "Division by zero"),
        ("5.0 % 0", "Division by zero"),
        ("0 ** -1", "finite|zero"),
        ("log(0)", "finite"),
        ("sqrt(-1)", "real numbers"),
        ("(-8) ** (1/3)", "real numbers"),
        ("asin(2)", "real numbers"),
        ("min()", "does not take 0"),
        ("factorial(401)", "0 to 400"),
        ("factorial(2.5)", "whole numbers"),
        ("round(1, 10**9)", "at most"),
        ("-" * 400 + "1", "too deeply"),
        ("1" * (MAX_EXPRESSION_CHARS + 1), "longer than"),
    ],
)
def test_what_is_not_arithmetic_is_refused_with_a_reason(expression: str, told: str) -> None:
    with pytest.raises(CalculationError, match=told):
        evaluate(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9**9",
        "10**1000",
        "2**(10**900)",
        "1e1001",
        "1e400*1e400*1e400",
        "(1e500)**(1e500)",
        "exp(1e9)",
        "factorial(400)*factorial(400)",
        "sum(" + ",".join(["10**999"] * 40) + ")",
        "(10**999)**2",
    ],
)
def test_results_past_the_digit_limit_are_refused_before_they_are_computed(expression: str) -> None:
    with pytest.raises(CalculationError, match=f"{MAX_DIGITS} digits"):
        evaluate(expression)


NUMBERS = st.one_of(
    st.integers(0, 10**12).map(str),
    st.decimals(0, 10**6, places=3, allow_nan=False).map(str),
    st.sampled_from(["pi", "e", "tau", "1e300", "10**999", "0", "0.0"]),
)
NAMES = ["sqrt", "cbrt", "exp", "ln", "log", "sin", "tan", "factorial", "floor", "round", "abs", "log2"]


def _bigger(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(children, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), children).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        st.tuples(st.sampled_from(NAMES), children).map(lambda parts: f"{parts[0]}({parts[1]})"),
        children.map(lambda child: f"-{child}"),
    )


@settings(max_examples=300, deadline=20_000)
@given(st.recursive(NUMBERS, _bigger, max_leaves=12))
def test_any_arithmetic_ends_soon_with_a_number_or_a_reason(expression: str) -> None:
    try:
        shown = show(evaluate(expression))
    except CalculationError:
        return
    assert len(shown) <= MAX_DIGITS + 1
    assert Decimal(shown).is_finite()


@settings(max_examples=300, deadline=20_000)
@given(st.text(string.ascii_lowercase + string.digits + "()[].,+-*/%_ \"'=:{}", max_size=40))
def test_any_text_gives_a_number_or_a_reason_and_nothing_else(text: str) -> None:
    with contextlib.suppress(CalculationError):
        assert show(evaluate(text))


@settings(max_examples=300, deadline=20_000)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.sampled_from(["+", "-", "*", "//", "%"]))
def test_whole_numbers_behave_as_in_python(a: int, b: int, sign: str) -> None:
    source = f"({a}) {sign} ({b})"
    try:
        expected = str(eval(compile(ast.parse(source, mode="eval"), "", "eval")))
    except ZeroDivisionError:
        with pytest.raises(CalculationError):
            evaluate(source)
    else:
        assert value_of(source) == expected
        if b != 0:  # decimals agree with whole numbers
            assert value_of(f"({a}.0) {sign} ({b}.0)") == expected


async def test_the_tool_tells_the_model_the_result(call: ToolContext) -> None:
    output = await calculate.run(CalculateArguments(expression="17 * 23"), call)
    assert output.content == "17 * 23 = 391"
    assert output.data == {"expression": "17 * 23", "result": "391"}


async def test_the_tool_fails_with_the_reason(call: ToolContext) -> None:
    with pytest.raises(ToolFailed) as caught:
        await calculate.run(CalculateArguments(expression="1/0"), call)
    assert caught.value.code is ErrorCode.TOOL_EXECUTION_FAILED
    assert caught.value.safe_message == "Division by zero."
