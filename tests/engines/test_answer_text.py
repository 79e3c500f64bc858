"""Text grows by whole characters and ends before a stop string, wherever tokens are cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.answer_text import AnswerText, whole_characters
from carrara.engines.contract import Text

CUTS = st.lists(st.integers(0, 200), max_size=12)
SHORT = st.text("ab€\n🙂", max_size=12)


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[a:b] for a, b in itertools.pairwise(edges)]


@given(text=SHORT, stops=st.lists(SHORT.filter(bool), max_size=3), cuts=CUTS)
def test_the_text_ends_before_the_first_stop_string_however_it_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    answer = AnswerText(stops)
    shown = [answer.shown()]
    for piece in pieces(text.encode(), cuts):
        answer.add(piece)
        shown.append(answer.shown())
        if answer.is_stopped:
            break
    # Cut at a stop string as soon as one is complete, at the earliest one within what is there.
    whole = answer.final()
    assert not any(stop in whole for stop in stops)
    assert text.startswith(whole)
    if answer.is_stopped:
        assert any(text[len(whole) :].startswith(stop) for stop in stops)
    else:
        assert whole == text
    for earlier, later in zip(shown, [*shown[1:], whole], strict=True):
        assert later.startswith(earlier), "something shown was taken back"


@given(text=st.text(max_size=20), cut=st.integers(0, 80))
def test_half_a_character_is_never_shown(text: str, cut: int) -> None:
    raw = text.encode("utf-8", "replace")[:cut]
    found = whole_characters(raw)
    assert "\ufffd" not in found or "\ufffd" in text
    assert raw.startswith(found.encode())
    assert len(raw) - len(found.encode()) < 4


@given(text=st.text("ab €\n🙂", max_size=12), cuts=CUTS, most=st.integers(1, 12))
def test_a_bounded_text_is_cut_at_its_bound_however_it_comes(
    text: str, cuts: list[int], most: int
) -> None:
    answer, bound = AnswerText(bound=Text(most)), Text(most)
    for piece in pieces(text.encode(), cuts):
        answer.add(piece)
        assert bound.cut(answer.shown()) == answer.shown()
    assert answer.final() == bound.cut(text)
    assert answer.is_full == (answer.final() != text)
    assert len(bound.parse(answer.final())) <= most


def test_bytes_that_can_be_no_character_are_replaced() -> None:
    assert whole_characters(b"a\xffb") == "a\ufffdb"
    assert whole_characters(b"\x80\x80") == "\ufffd\ufffd"
    assert whole_characters(b"ok\xf0\x9f\x99") == "ok"


def test_what_may_become_a_stop_string_is_held_back() -> None:
    answer = AnswerText(["\n\nUser:"])
    answer.add(b"Hello\n\nUs")
    assert answer.shown() == "Hello"
    answer.add(b"eful")
    assert answer.shown() == "Hello\n\nUseful"
    answer.add(b".\n\nUser: hi")
    assert (answer.shown(), answer.is_stopped) == ("Hello\n\nUseful.", True)
    answer.add(b" more")
    assert answer.final() == "Hello\n\nUseful."


def test_an_empty_stop_string_stops_nothing() -> None:
    answer = AnswerText(["", "x"])
    answer.add(b"abc")
    assert answer.final() == "abc"
    assert not answer.is_stopped
