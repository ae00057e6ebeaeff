"""What lives at once lies apart, in no less than what lives at once and never more than everything side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowcore.packing import Span, most_alive, packed

SPANS = st.builds(
    lambda first, length, size: Span(first, first + length, 64 * size),
    st.integers(0, 30), st.integers(0, 12), st.integers(0, 20),
)  # fmt: skip


@given(st.lists(SPANS, max_size=40))
def test_what_lives_at_once_lies_apart_within_the_size(spans: list[Span]) -> None:
    places, size = packed(spans)
    assert most_alive(spans) <= size <= sum(span.size for span in spans)
    for i, (a, at) in enumerate(zip(spans, places, strict=True)):
        assert 0 <= at <= size - a.size
        for b, other in list(zip(spans, places, strict=True))[:i]:
            is_apart = at + a.size <= other or other + b.size <= at
            assert is_apart or a.last < b.first or b.last < a.first


@given(st.lists(SPANS, max_size=30))
def test_what_lives_at_once_is_the_most_of_all_moments(spans: list[Span]) -> None:
    moments = range(max((span.last for span in spans), default=0) + 1)
    alive = [sum(span.size for span in spans if span.first <= now <= span.last) for now in moments]
    assert most_alive(spans) == max(alive)


def test_the_best_of_several_orders_is_kept() -> None:
    # the largest first leaves a gap too small for the last; by the earliest first all fit in what lives at once
    spans = [Span(0, 1, 2), Span(1, 3, 3), Span(3, 4, 2), Span(0, 0, 3), Span(4, 5, 3), Span(2, 2, 2)]
    assert packed(spans)[1] == most_alive(spans) == 5


def test_spans_that_follow_each_other_share_their_place() -> None:
    assert packed([Span(i, i, 64) for i in range(100)]) == ([0] * 100, 64)
    assert packed([]) == ([], 0)
