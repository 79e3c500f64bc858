"""No password of a URL reaches a person or a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.runtime.database_url import driver_url, is_server, said, shown_url, without_password


@pytest.mark.parametrize(
    ("url", "shown", "kept"),
    [
        ("postgresql://me:s3cret@h/db#t", "postgresql://me:***@h/db#t", "postgresql://me@h/db#t"),
        ("postgres://me:s3/c@ret@h:5/d?a=1#t", "postgres://me:***@h:5/d?a=1#t", "postgres://me@h:5/d?a=1#t"),
        ("postgresql://me@/d?password=s3cret&host=/s#t", "postgresql://me@/d?password=***&host=/s#t", "postgresql://me@/d?host=/s#t"),
        ("postgresql://me@h/d?host=/s&sslpassword=s3cret", "postgresql://me@h/d?host=/s&sslpassword=***", "postgresql://me@h/d?host=/s"),
        ("postgresql://me@h/d?password=s3cret", "postgresql://me@h/d?password=***", "postgresql://me@h/d"),
        ("postgresql+psycopg://me:s%40c@h/d", "postgresql+psycopg://me:***@h/d", "postgresql+psycopg://me@h/d"),
        ("postgresql://me:s3#cret@h/d", "postgresql://me:***", "postgresql://me"),
    ],
)  # fmt: skip
def test_a_password_is_taken_out(url: str, shown: str, kept: str) -> None:
    assert shown_url(url) == shown
    assert without_password(url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h:5432/db#SELECT 'a@b:c'",
        "postgresql://h1:1,h2:2/db",
        "postgresql:///db",
        "sqlite:///rows.db#t",
        "docs/*.txt",
        "a:b@c.jsonl",
        "-",
    ],
)
def test_what_holds_none_stays_as_it_is(url: str) -> None:
    assert shown_url(url) == without_password(url) == url


def test_only_servers_are_servers() -> None:
    assert is_server("postgresql+psycopg://h/db")
    assert is_server("postgres://h/db")
    assert not is_server("sqlite:///a.db")
    assert not is_server(".carrara/journal.db")
    assert driver_url("postgres://h/db") == "postgresql+psycopg://h/db"


parts = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
secrets = st.text(
    st.characters(codec="ascii", categories=("L", "N", "P", "S"), exclude_characters="#"),
    min_size=6,
    max_size=12,
).filter(lambda text: not text.replace("*", "").isdigit() and "***" not in text)


@given(parts, secrets, parts, parts)
def test_whatever_the_password_is_it_is_nowhere(me: str, secret: str, host: str, db: str) -> None:
    url = f"postgresql://{me}:{secret}@{host}/{db}#t"
    secret_part = f":{secret}@"
    assert secret_part not in shown_url(url)
    assert secret_part not in without_password(url)
    assert without_password(url) == f"postgresql://{me}@{host}/{db}#t"
    assert secret not in said(f"cannot reach {url}", url).replace("***", "")
