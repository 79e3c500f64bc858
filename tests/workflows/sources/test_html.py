"""Pages keep their characters, and their tables the columns that a browser shows."""

import re
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.records import Record, read_records
from carrara.workflows.sources import html
from carrara.workflows.sources.record import Unreadable


def text_of(page: str) -> str:
    return str(html.read(page)["text"])


def mail(folder: Path, raw: bytes) -> Record:
    (folder / "a.eml").write_bytes(raw)
    [record] = read_records(str(folder / "a.eml"))
    return record


def test_a_mails_own_encoding_wins_over_that_which_its_page_declares(tmp_path: Path) -> None:
    page = '<html><head><meta charset="windows-1252"></head><body><p>Café für 5 €</p></body></html>'
    made = EmailMessage()
    made["Subject"] = "Rechnung"
    made.set_content(page, subtype="html", charset="windows-1252")
    assert mail(tmp_path, made.as_bytes()).fields["text"] == "Café für 5 €\n"


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-8"])
def test_a_page_in_a_mail_that_tells_no_encoding_tells_its_own(
    tmp_path: Path, encoding: str
) -> None:
    page = f'<meta charset="{encoding}"><p>Café für 5 €</p>'
    raw = b"Subject: x\nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\n\n"
    record = mail(tmp_path, raw + page.encode(encoding))
    assert record.fields["text"] == "Café für 5 €\n"


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-8"])
def test_a_mail_in_text_that_tells_no_encoding_keeps_its_letters(
    tmp_path: Path, encoding: str
) -> None:
    raw = b"Subject: x\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\n"
    record = mail(tmp_path, raw + "Café für 5 €\n".encode(encoding))
    assert record.fields["text"] == "Café für 5 €\n"


@given(st.text(st.sampled_from("ab1_*#-+.!|~ ()[]{}\\"), min_size=1).map(str.strip).filter(bool))
def test_characters_stay_what_they_are(text: str) -> None:
    assert text_of(f"<p>{text}</p>").split() == text.split()


def test_names_and_numbers_are_not_escaped() -> None:
    text = "Mail john_doe@example.com, file a_b_c.txt, 2*3=6"
    assert text_of(f"<p>{text}</p>") == f"{text}\n"


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        pytest.param(
            "<tr><th>Name</th><th>Size</th><th>Price</th></tr>"
            "<tr><td rowspan=2>Pen</td><td>S</td><td>1</td></tr><tr><td>L</td><td>2</td></tr>",
            ["Name | Size | Price", "Pen | S | 1", "Pen | L | 2"],
            id="a cell over two rows",
        ),
        pytest.param(
            "<tr><th rowspan=2>Name</th><th colspan=2>Price</th></tr><tr><th>net</th><th>gross</th></tr>"
            "<tr><td>Pen</td><td>1</td><td>2</td></tr>",
            ["Name | Price | ", "Name | net | gross", "Pen | 1 | 2"],
            id="a header of two rows",
        ),
        pytest.param(
            "<thead><tr><th rowspan=3>A</th><th>B</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody>",
            ["A | B", "1 | 2"],
            id="no cell leaves the head",
        ),
        pytest.param(
            "<tr><th>A</th><th>B</th></tr><tr><td>x|y</td><td><code>a|b</code></td></tr>",
            ["A | B", r"x\|y | `a\|b`"],
            id="a bar in a cell",
        ),
        pytest.param(
            "<tr><th>A<th>B<tr><td>1<td>2<tr><td>3",
            ["A | B", "1 | 2", "3 | "],
            id="end tags left out, and a short row",
        ),
        pytest.param(
            "<tr><td colspan=1000>A</td></tr><tr><td>1</td><td rowspan=0>2</td></tr><tr><td>3</td></tr>",
            ["A | ", "1 | 2", "3 | 2"],
            id="spans without an end",
        ),
    ],
)  # fmt: skip
def test_values_stand_under_their_header(table: str, rows: list[str]) -> None:
    lines = text_of(f"<p>before</p><table>{table}</table><p>after</p>").split("\n")
    assert lines[:2] == ["before", ""]
    assert lines[-3:] == ["", "after", ""]
    made = lines[2:-3]
    assert made.pop(1) == "|" + " --- |" * (rows[0].count(" | ") + 1)
    assert made == [f"| {row} |" for row in rows]


def test_a_long_cell_over_several_rows_is_not_repeated() -> None:
    long = "word " * 100
    text = text_of(
        f"<table><tr><td rowspan=2>{long}</td><td>1</td></tr><tr><td>2</td></tr></table>"
    )
    assert text.count("word") == 100
    assert text.endswith("\n|  | 2 |\n")


def test_the_caption_stands_before_its_table() -> None:
    page = (
        "<table><caption>Prices</caption><tr><th>A</th><th>B</th></tr><tr><td>1<td>2</tr></table>"
    )
    assert text_of(page) == "Prices\n\n| A | B |\n| --- | --- |\n| 1 | 2 |\n"


def test_tables_within_tables_are_read_one_by_one() -> None:
    page = """<table width=600><tr><td><h1>Hi</h1><p>Dear <b>Ann</b>,</p>
    <table><tr><th>Item</th><th>Price</th></tr><tr><td>Pen</td><td>1.20</td></tr></table></td>
    <td>aside</td></tr></table>"""
    assert text_of(page) == (
        "# Hi\n\nDear **Ann**,\n\n| Item | Price |\n| --- | --- |\n| Pen | 1.20 |\n\naside\n"
    )


def test_a_table_that_spans_beyond_measure_is_refused() -> None:
    page = f"<table>{'<tr><td colspan=1000>x</td><td>y</td></tr>' * 2100}</table>"
    with pytest.raises(Unreadable, match="more than 2,000,000 cells"):
        html.read(page)


def test_empty_tables_keep_words_apart() -> None:
    assert text_of("one<table></table>two<table>\n</table>three").split() == [
        "one", "two", "three",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<ul><li>a<li>b<li>c</ul>", "- a\n- b\n- c"),
        ("<ol start=3><li>a<ul><li>b</ul><li><p>c<p>d</ol>", "3. a\n   - b\n4. c\n\n   d"),
        ("<dl><dt>Total<dd>12<dt>Tax<dd>3</dl>", "Total\n:   12\n\nTax\n:   3"),
        ("<dt>Total<dd>12", "Total\n:   12"),
        ("<address>Street 5</address><address>City</address>", "Street 5\n\nCity"),
        ("<main>A</main><aside>B</aside><form>D</form><center>E</center>F", "A\n\nB\n\nD\n\nE\n\nF"),
        ("<header>A</header>B<footer>C</footer>", "A\n\nB\n\nC"),
        ("<details><summary>A</summary>B</details>", "A\nB"),
        ("a<select><option>A<option>B</select>b", "a\nA\nb"),
        ("<select><option>A<option selected>B<option>C</select>", "B"),
        ("<select><option selected>A<option selected>B<option>C</select>", "B"),
        ("<select><option disabled>A<optgroup disabled><option>B</optgroup><option>C</select>", "C"),
        ("<select><option disabled selected>A<option>B</select>", "A"),
        ("<select><optgroup><option>A<option selected>B</optgroup></select>", "B"),
        ("a<select multiple><option selected>A<option>B<option selected>C</select>", "a\nA\nC"),
        ("a<select multiple><option>A<option>B</select>b", "a\nb"),
        ("a<select size=3><option>A<option>B</select>b", "a\nb"),
        ("<table><tr><td>Size<td><select><option>S<option selected>M</select></table>", "| Size | M |\n| --- | --- |"),
        ("<button>A</button><button>B</button>", "A B"),
        ("a<br>b<br><br>c", "a\nb\n\nc"),
        ("<h1>A <b>b</b><br>c</h1><hr>d", "# A **b** c\n\n---\n\nd"),
        ("<blockquote>a<blockquote>b</blockquote></blockquote>c", "> a\n>\n> > b\n\nc"),
        ("<pre>\na\n  b\n\nc\n</pre>", "```\na\n  b\n\nc\n```"),
        ("<pre>a ``` b</pre>", "````\na ``` b\n````"),
        ("<pre>a<table><tr><td>1<td>2</table>b", "```\na\n```\n\n| 1 | 2 |\n| --- | --- |\n\n```\nb\n```"),
        ("<code>a`b</code> <kbd>c\n d</kbd>", "`` a`b `` `c d`"),
        ("<p style='white-space: pre-wrap'>a\nb</p><textarea>c\nd</textarea>", "a\nb\n\nc\nd"),
        ("<b> a </b>b <i></i><del>c</del><q>d</q>", '**a** b ~~c~~"d"'),
        ("<b>a<p>b</b>c", "**a**\n\n**b**c"),
        ("<b style='font-weight:normal'>a <b>b</b></b>", "a **b**"),
        ("12<sup>99</sup>, m<sup>2</sup>, 10<sup>-3</sup>, e<sup>x</sup>", "12^99, m^2, 10^-3, e^x"),
        ("1<sup>st</sup>, H<sub>2</sub>O, note<sup>[1]</sup>, log<sub>2</sub>", "1st, H2O, note[1], log2"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>", "漢(かん)"),
        ("<input value='X 5'><input type=checkbox checked>a<input type=radio>b", "X 5 [x] a [ ] b"),
    ],
)  # fmt: skip
def test_elements_become_markdown(page: str, text: str) -> None:
    assert text_of(page) == f"{text}\n"


@pytest.mark.parametrize(
    "unseen",
    [
        "<p hidden>no</p>",
        "<div style='color: red; Display : NONE !important'>no<p>no</p></div>",
        "<table><tr style=display:none><td>no<td>no</table>",
        "<dialog>no</dialog>",
        "<input type=hidden value=no>",
        "<script>no</script><style>no</style><template>no</template><noscript>no</noscript>",
        "<!--[if mso]>no<![endif]--><![if !no]><?no ?>",
        "<nav>no</nav><svg><title>no</title></svg><video>no</video>",
    ],
)
def test_what_a_browser_does_not_show_is_left_out(unseen: str) -> None:
    assert text_of(f"<p>a</p>{unseen}<p>b</p>") == "a\n\nb\n"


def test_conditional_text_that_is_shown_is_read() -> None:
    assert text_of("<p><![if !supportLists]>1.<![endif]> Item") == "1. Item\n"


def test_what_follows_the_end_of_the_page_is_read_apart() -> None:
    page = (
        "<html><body><p>one</body></html>two<table><tr><td>a<td>b</table><html><body>three</html>"
    )
    assert text_of(page) == "one\n\ntwo\n\n| a | b |\n| --- | --- |\n\nthree\n"


def test_xhtml_keeps_what_html_would_swallow() -> None:
    page = (
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/>'
        '<script src="a/b.js"/></head><body><p/>a<![CDATA[ <b> & ]]><br/>c</body></html>'
    )
    assert text_of(page) == "a <b> &\nc\n"


def test_the_title_is_the_pages_own() -> None:
    page = "<svg><title>icon</title></svg><h1>A <i>b</i></h1>"
    assert html.read(page)["title"] == "A b"
    assert html.read(f"<title> T\n t</title>{page}")["title"] == "T t"


def test_end_tags_may_be_left_out() -> None:
    assert text_of("<p>x" * 3000) == "\n\n".join("x" * 3000) + "\n"


_TAGS = st.sampled_from(
    ["p", "b", "i", "a", "font", "div", "span", "table", "tr", "td", "th", "caption", "tbody", "ul", "ol",
     "li", "dl", "dt", "dd", "pre", "code", "h1", "h2", "br", "hr", "q", "sup", "sub", "blockquote", "select",
     "option", "textarea", "button", "form", "input", "body", "html", "head", "title", "script", "style",
     "template", "svg", "math", "mi", "rt", "ruby", "details", "frameset", "plaintext", "noscript", "iframe",
     "address", "center", "nobr"]
)  # fmt: skip
_PIECES = st.one_of(
    _TAGS.map(lambda tag: f"<{tag}>"),
    _TAGS.map(lambda tag: f"</{tag}>"),
    st.sampled_from(
        ["<td colspan=0 rowspan=9>", "<li value=-1>", "<ol start=x>", "<!--", "-->", "<![CDATA[", "<p/>", "<?xml ?>",
         "<p style='display:none", "<b a=1>", "<b a=2>", "&#xD800;", "&nbsp;", "<", "|", "`", " ", "\n", "\0"]
    ),
    st.text(max_size=5),
)  # fmt: skip


@given(st.lists(_PIECES, max_size=40).map("".join))
def test_every_page_is_read_or_refused(page: str) -> None:
    for raw in (page, page.encode("utf-8", "surrogatepass"), f"<?xml ?>{page}"):
        try:
            text = str(html.read(raw)["text"])
        except Unreadable:
            continue
        text.encode("utf-8", "strict" if isinstance(raw, bytes) else "surrogatepass")
        assert text.strip()


_SEEN = st.sampled_from(
    ["p", "b", "i", "font", "div", "span", "ul", "ol", "li", "dl", "dt", "dd", "pre", "code", "h1", "q", "sup",
     "blockquote", "option", "button", "address", "a", "td", "tr", "table"]
)  # fmt: skip


@given(st.lists(st.one_of(_SEEN.map(lambda tag: f"<{tag}>"), st.integers(10, 99)), max_size=30))
def test_no_word_is_lost_and_none_is_moved(pieces: list[str | int]) -> None:
    """But out of a table, in which text stands in no cell: browsers show it before."""
    page = "".join(f" w{piece}w " if isinstance(piece, int) else piece for piece in pieces)
    words = re.findall(r"w\d\dw", page)
    found = re.findall(r"w\d\dw", text_of(f"{page} w00w"))
    assert sorted(found) == sorted([*words, "w00w"])
    if "<table>" not in page:
        assert found == [*words, "w00w"]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: "<table>" + "<tr><td>a<td>b" * n, id="rows"),
        pytest.param(lambda n: "".join(f"<p><font size={i}>x" for i in range(n)), id="open fonts"),
        pytest.param(lambda n: "<blockquote>" * 900 + "<p>x" * n, id="quotes"),
        pytest.param(lambda n: "<p>x" + "<b '" * n, id="tags without an end"),
        pytest.param(lambda n: "<?xml ?>x" + "<![CDATA[" * n, id="data without an end"),
    ],
)
def test_a_page_twice_as_long_takes_twice_the_time(make: Callable[[int], str]) -> None:
    html.read("<p>x")
    once, much = (min(_seconds(make(n)) for _ in range(2)) for n in (400, 400 * 8))
    assert much < 24 * once + 0.2  # quadratic time would be 64 times as long


def _seconds(page: str) -> float:
    begun = process_time()
    text_of(page)
    return process_time() - begun
