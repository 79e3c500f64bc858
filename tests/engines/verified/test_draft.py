"""A draft and an answer that follows it, leaves it and comes back."""

from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.verified.draft import Draft, Piece

VOCABULARY = [b"", *(bytes([byte]) for byte in range(256)), b"the ", b"cat", b'", "']
BY_TEXT = {piece: number for number, piece in enumerate(VOCABULARY) if piece}


def encode(text: str) -> list[int]:
    """The longest token first."""
    rest, found = text.encode(), []
    while rest:
        size = next(n for n in range(4, 0, -1) if rest[:n] in BY_TEXT)
        found.append(BY_TEXT[rest[:size]])
        rest = rest[size:]
    return found


def draft(*pieces: bytes, sure: float = 1.0) -> Draft:
    made = Draft(encode, VOCABULARY)
    made.extend(Piece(BY_TEXT.get(piece, 0), piece, sure) for piece in pieces)
    return made


def test_the_model_s_own_spelling_comes_before_the_canvas_s() -> None:
    found = draft(b"t", b"h", b"e", b" ", b"cat")
    assert list(found.candidates(0)) == [BY_TEXT[b"the "], BY_TEXT[b"t"]]
    assert list(found.candidates(4)) == [BY_TEXT[b"cat"]]
    assert list(found.candidates(5)) == [BY_TEXT[b"a"]]
    assert list(found.candidates(7)) == []


def test_an_answer_in_other_tokens_is_still_on_the_draft() -> None:
    found = draft(b"the ", b"cat")
    found.follow(b"th", 2)
    assert (found.cursor, found.is_ahead) == (2, True)
    found.follow(b"the cat", 5)
    assert (found.is_ahead, found.is_used_up, found.over) == (False, True, 0)


def test_after_a_wrong_field_the_answer_comes_back_at_the_next_key() -> None:
    found = draft(b'{"a": "cat", "b": "dog"}')
    found.follow(b'{"a": "cow', 10)
    assert found.cursor is None
    found.follow(b'{"a": "cow", ', 3)
    assert found.cursor is None
    found.follow(b'{"a": "cow", "b"', 3)
    assert found.raw[found.cursor :] == b': "dog"}'


def test_it_comes_back_at_once_where_one_pass_wrote_the_end_of_the_wrong_field_and_the_next_key() -> (
    None
):
    found = draft(b'{"n": "8111", "street": "Madison"}')
    found.follow(b'{"n": "', 7)
    found.follow(b'{"n": "811", "street":', 15)
    assert found.raw[found.cursor :] == b' "Madison"}'


def test_what_was_written_beyond_the_end_is_compared_when_the_draft_grows() -> None:
    found = draft(b"the ")
    found.follow(b"the cat", 7)
    assert (found.is_used_up, found.over) == (True, 3)
    found.extend([Piece(BY_TEXT[b"cat"], b"cat")], b"the cat")
    assert (found.cursor, found.over) == (7, 0)


def test_a_draft_that_the_answer_left_is_used_up_once_the_answer_is_longer() -> None:
    found = draft(b"[1, 2,")
    found.follow(b"[1, 7", 5)
    assert (found.cursor, found.is_used_up) == (None, False)
    found.follow(b"[1, 7, 3", 3)
    assert (found.cursor, found.is_used_up, found.over) == (None, True, 2)
    found.extend([Piece(1, b" 1, 7, 3, 4]")], b"[1, 7, 3")
    assert found.raw[found.cursor :] == b", 4]"


def test_a_stretch_is_as_likely_as_all_that_was_decided_in_it() -> None:
    found = draft(b"the ", b"cat", b"the ", sure=0.5)
    assert (found.chance(0, 4), found.chance(0, 5), found.chance(5, 7)) == (0.5, 0.25, 1.0)
    assert found.chance(0, 99) == 0.125


@given(st.binary(max_size=40), st.lists(st.binary(max_size=6), max_size=12))
def test_the_cursor_always_stands_behind_bytes_that_the_answer_ends_with(
    raw: bytes, steps: list[bytes]
) -> None:
    found, answer = draft(*(bytes([byte]) for byte in raw)), b""
    for step in steps:
        answer += step
        found.follow(answer, len(step))
        if found.cursor is not None:
            done = answer[: len(answer) - found.over]
            shared = min(4, found.cursor)
            assert done[len(done) - shared :] == raw[found.cursor - shared : found.cursor]


@given(st.text(max_size=30), st.integers(0, 30))
def test_candidates_write_what_the_draft_says(text: str, at: int) -> None:
    found = draft(*(bytes([byte]) for byte in text.encode()))
    for token in found.candidates(at):
        assert found.raw.startswith(VOCABULARY[token], at)
