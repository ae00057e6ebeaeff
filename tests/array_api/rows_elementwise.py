"""Rows of the elementwise functions."""

from __future__ import annotations

from tests.array_api.table import TWO, Row, rows

PAIR = ("normal", "normal")

ELEMENTWISE: list[Row] = [
    *rows("exp(x)\nexpm1(x)\nsin(x)\ncos(x)\ntan(x)\nsinh(x)\ncosh(x)\ntanh(x)\nasinh(x)\natan(x)", kinds="fc"),
    *rows("acos(x)\nasin(x)\natanh(x)", kinds="fc", draws=("unit",)),
    *rows("log(x)\nlog1p(x)\nlog2(x)\nlog10(x)\nsqrt(x)\nreciprocal(x)", kinds="fc", draws=("positive",)),
    *rows("acosh(x)", kinds="fc", draws=("above 1",)),
    *rows("abs(x)\nsign(x)\nnegative(x)\npositive(x)\nsquare(x)\nisnan(x)\nisinf(x)\nisfinite(x)"),
    *rows("conj(x)\nreal(x)\nimag(x)", kinds="c"),
    *rows("round(x)", kinds="iufc"),
    *rows("ceil(x)\nfloor(x)\ntrunc(x)", kinds="iuf"),
    *rows("signbit(x)", kinds="f"),
    *rows("logical_not(x)", kinds="b"),
    *rows("bitwise_invert(x)", kinds="biu"),
    *rows(
        "add(x, y); x + y; 3 + x\nsubtract(x, y); x - y; 3 - x\nmultiply(x, y); x * y; x * 2",
        shapes=TWO,
        draws=PAIR,
    ),
    *rows("divide(x, y); x / y; 2 / y", kinds="fc", shapes=TWO, draws=("normal", "positive")),
    *rows("pow(x, y); x ** y; x ** 2", kinds="fc", shapes=TWO, draws=("positive", "normal")),
    Row("pow", ("xp.pow(x, y)", "x ** y", "2 ** y"), kinds="iu", shapes=TWO, draws=("normal", "small")),
    *rows(
        "floor_divide(x, y); x // y\nremainder(x, y); x % y; x % 3",
        kinds="iuf",
        shapes=TWO,
        draws=("normal", "positive"),
    ),
    *rows(
        "atan2(x, y)\ncopysign(x, y)\nhypot(x, y)\nlogaddexp(x, y)\nnextafter(x, y)", kinds="f", shapes=TWO, draws=PAIR
    ),
    *rows("maximum(x, y); maximum(x, 2)\nminimum(x, y)", kinds="iuf", shapes=TWO, draws=PAIR),
    *rows("equal(x, y); x == y; x == 1\nnot_equal(x, y); x != y", kinds="biufc", shapes=TWO, draws=PAIR),
    *rows(
        "less(x, y); x < y\nless_equal(x, y); x <= y\ngreater(x, y); x > y; x > 1\ngreater_equal(x, y); x >= y",
        kinds="iuf",
        shapes=TWO,
        draws=PAIR,
    ),
    *rows("logical_and(x, y)\nlogical_or(x, y)\nlogical_xor(x, y)", kinds="b", shapes=TWO, draws=PAIR),
    *rows(
        "bitwise_and(x, y); x & y\nbitwise_or(x, y); x | y\nbitwise_xor(x, y); x ^ y",
        kinds="biu",
        shapes=TWO,
        draws=PAIR,
    ),
    *rows(
        "bitwise_left_shift(x, y); x << y; x << 1\nbitwise_right_shift(x, y); x >> y",
        kinds="iu",
        shapes=TWO,
        draws=("normal", "small"),
    ),
    *rows(
        "clip(x, 0, 2); clip(x, min=1); clip(x, max=2); clip(x); clip(x, y, None)", kinds="iuf", shapes=TWO, draws=PAIR
    ),
    *rows(
        "where(x, y, z); where(x, y, 1)",
        kinds="iufc",
        shapes=(((5, 7), (5, 7), (5, 7)), ((), (), ()), ((5, 1), (7,), ()), ((0,), (1,), ())),
        draws=("bool", *PAIR),
    ),
    *rows(
        "exp(x)\nlog(x)\nsqrt(x)\nsin(x)\ncos(x)\ntan(x)\nacos(x)\natan(x)\ncosh(x)\nacosh(x)\natanh(x)",
        kinds="f",
        draws=("special",),
    ),
    *rows(
        "expm1(x)\ntanh(x)\nround(x)\nfloor(x)\nsign(x)\nabs(x)\nreciprocal(x)\nsignbit(x)",
        kinds="f",
        draws=("special",),
    ),
    *rows("isnan(x)\nisinf(x)\nisfinite(x)", kinds="fc", draws=("special",)),
    *rows(
        "add(x, y)\nmultiply(x, y)\ndivide(x, y)\npow(x, y)\nfloor_divide(x, y)\nremainder(x, y)\nmaximum(x, y)\n"
        "atan2(x, y)\nhypot(x, y)\nlogaddexp(x, y)\ncopysign(x, y)",
        kinds="f",
        shapes=TWO[1:3],
        draws=("special", "special"),
    ),
]
