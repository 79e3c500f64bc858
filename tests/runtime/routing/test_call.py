"""The requests that are made from a call."""

from carrara.engines.request import Message, Request
from carrara.runtime.routing.call import with_faults


def test_a_faulty_answer_is_shown_with_what_is_wrong_with_it() -> None:
    asked = with_faults(Request((Message("user", "A city?"),)), "Rom", ["it is misspelt"])
    assert [message.role for message in asked.messages] == ["user", "assistant", "user"]
    assert asked.messages[1].content == "Rom"
    assert "1. it is misspelt" in asked.messages[2].content


def test_an_empty_answer_is_no_turn_when_it_is_asked_for_again() -> None:
    request = Request((Message("system", "Be short."), Message("user", "A city?")))
    for text in ("", " \n"):
        asked = with_faults(request, text, ["it is empty"])
        assert [message.role for message in asked.messages] == ["system", "user"]
        assert asked.messages[-1].content.startswith(
            "A city?\n\nAn empty answer is wrong:\n1. it is"
        )
