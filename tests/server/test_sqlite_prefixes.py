"""sqlite: a prefix is searched as a range of texts, in the order of their UTF-8."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from neardict_server.backends.sqlite.backend import _after_prefix

# Those at the ends of what one more or less byte can hold, and on both sides of the surrogates.
EDGES = st.sampled_from("\x01\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010fffe\U0010ffffab")
TEXTS = st.text(EDGES, max_size=4)


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(TEXTS, TEXTS, TEXTS)
@example("\ud7ff", "\ue000", "")
@example("\U0010ffff", "\U0010ffff", "a")
def test_the_range_of_a_prefix_holds_what_begins_with_it_and_nothing_else(
    prefix: str, start: str, rest: str
) -> None:
    after = _after_prefix(prefix)
    for text in (start, start + rest, prefix + rest):
        within = prefix.encode() <= text.encode() and (after is None or text.encode() < after.encode())
        assert within == text.startswith(prefix)
