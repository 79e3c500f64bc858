"""Receipts and bills made by program, with what stands on them: rows to train on where no licensed ones can be had.

Shops, goods, prices and layouts are drawn; nothing is taken from a real receipt or from examples/receipts. Each has
distractors that a careless reader takes for the answer: subtotals, tax, cash and change, telephone and invoice numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from carrara.engines.contract import to_data
from carrara.workflows.steps import Llm
from carrara.workflows.yaml.compile import core_of
from carrara.workflows.yaml.load import load

EXAMPLES = Path(__file__).parent.parent / "examples"
PIPELINES = {
    "made_receipt": EXAMPLES / "receipts" / "receipts.yaml",
    "made_receipt_flat": EXAMPLES / "tasks" / "sroie_receipt.yaml",
}
"""By the task that a made row has, the pipeline whose wording and contract it has."""

MOST_ITEMS = 5


def _list(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(","))


_FIRST = _list(
    "silver,golden,red,blue,old,new,grand,royal,sunny,happy,lucky,urban,north,south,east,west,upper,lower,twin,"
    "corner,central,lakeside,hillside,garden,valley,pacific,atlas,star,moon,swan,fox,lion,eagle,maple,cedar,willow,"
    "ivy,coral,amber,velvet,copper,iron,stone,crystal,orchid,lotus,jade,summit,delta,harvest,morning,evening"
)
_SECOND = _list(
    "bakery,cafe,kitchen,market,mart,grocers,books,stationery,hardware,pharmacy,petrol,garage,florist,deli,bistro,"
    "pizzeria,noodles,grill,diner,electronics,toys,sports,shoes,fashion,tailors,optics,pets,nursery,furniture,"
    "lighting,paints,tools,cycles,music,records,cinema,hotel,laundry,cleaners,salon,supplies,trading,enterprise"
)
_NAMES = _list(
    "tan, ali, wong, miller, garcia, schmidt, rossi, novak, kumar, silva, dubois, olsen, park, haddad, kelly, moreau"
)
_FORMS = ("", "", "", "LTD", "SDN BHD", "INC", "& SONS", "& CO.", "GMBH", "PTE LTD", "(M) SDN BHD")
_STREETS = _list(
    "ORCHARD,MARKET,CHURCH,BRIDGE,KING,QUEEN,CASTLE,VICTORIA,STATION,PARK,HIGH,RIVER,TEMPLE,SCHOOL,WINDMILL,AMPANG,"
    "BUKIT, TEBRAU, SENTUL, MASJID, LINDEN, CHESTNUT, PROSPECT, LINCOLN, JEFFERSON"
)
_WAYS = ("STREET", "ROAD", "AVENUE", "LANE", "SQUARE", "DRIVE", "BOULEVARD")
_TOWNS = _list(
    "KUALA LUMPUR, JOHOR BAHRU, SHAH ALAM, SPRINGFIELD, BRIDGEPORT, NORWICH, ABERDEEN, KLANG, PETALING JAYA, "
    "LEEDS, GALWAY, PORTLAND, MADISON, AUCKLAND, PERTH, IPOH, SEREMBAN"
)
_KINDS = _list(
    "white,brown,green,black,sweet,spicy,fresh,frozen,organic,large,small,double,single,classic,premium,mini,soft,"
    "dark, light, roasted, salted, plain, mixed, baby"
)
_GOODS = _list(
    "bread,milk,rice,eggs,butter,cheese,yoghurt,apples,bananas,onions,tomatoes,chicken,salmon,noodles,pasta,honey,"
    "coffee,espresso,latte,tea,lemonade,water,beer,muffin,bagel,croissant,sandwich,burger,fries,soup,salad,curry,"
    "notebook,pencil,marker,stapler,envelope,glue,folder,ruler,paint,brush,hammer,nails,bolts,drill bit,sandpaper,"
    "light bulb,battery,cable,charger,headphones,keyboard,mouse pad,towel,soap,shampoo,toothpaste,plaster,vitamin c,"
    "aspirin,novel,magazine,atlas,postcard,candle,vase,roses,seeds,pot,dog food,cat litter,socks,t-shirt,scarf,belt,"
    "diesel,petrol 95,car wash,engine oil,parking,delivery,service charge,haircut,ticket,poster,tape,rope,gloves"
)
_SIZES = (
    "",
    "",
    "",
    "500G",
    "1KG",
    "2L",
    "330ML",
    "A4",
    "10MM",
    "X2",
    "XL",
    "12PCS",
    "NO.5",
    "40W",
    "6 PACK",
)
_DATES = (
    "%d/%m/%Y", "%d-%m-%Y", "%d.%m.%Y", "%Y-%m-%d", "%d/%m/%y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%m/%d/%Y",
    "%d-%m-%y",
)  # fmt: skip
_MONTHS = _list("JAN, FEB, MAR, APR, MAY, JUN, JUL, AUG, SEP, OCT, NOV, DEC")
_TOTALS = (
    "TOTAL", "TOTAL", "TOTAL", "TOTAL DUE", "GRAND TOTAL", "AMOUNT DUE", "TOTAL AMOUNT", "NET TOTAL", "Total",
    "TOTAL TO PAY", "BALANCE DUE", "TOTAL (INCL. TAX)",
)  # fmt: skip
_FAREWELLS = (
    "THANK YOU",
    "PLEASE COME AGAIN",
    "GOODS SOLD ARE NOT RETURNABLE",
    "HAVE A NICE DAY",
    "VISIT US ONLINE",
)
_MONEY = ("", "", "", "RM ", "$", "EUR ", "£", "USD ")

FIELDS: Mapping[str, Sequence[str]] = {
    "company": ("shop", "merchant", "seller", "store_name", "vendor"),
    "date": ("purchase_date", "date_printed", "day", "dated"),
    "address": ("shop_address", "location", "where"),
    "items": ("lines", "positions", "bought", "line_items"),
    "name": ("description", "article", "product", "item"),
    "price": ("amount", "line_total", "cost", "paid"),
    "total": ("total_due", "sum", "grand_total", "to_pay"),
    "number": ("receipt_number", "invoice", "bill_no"),
}
"""What the parts of a receipt are called in rows that are not of a pipeline."""

WORDINGS = (
    "Read the receipt and give a JSON object with the keys {fields}. Null where nothing is printed.\n\n{text}",
    "{text}\n\nExtract {fields} as JSON.",
    "Text of a bill:\n{text}\n\nFill in these fields: {fields}.",
)


class Item(NamedTuple):
    name: str
    cents: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was drawn, and `lines`, how it is printed."""

    company: str
    date: str | None
    address: str | None
    number: str | None
    items: tuple[Item, ...]
    lines: tuple[str, ...]

    @property
    def cents(self) -> int:
        return sum(item.cents for item in self.items)

    @property
    def total_printed(self) -> str:
        return _amount(self.cents)


def receipt_rows(most: int, seed: int) -> Iterator[dict[str, Any]]:
    """`most` rows: half in the wording of examples/receipts, the others in that of the flat task, and in more.

    The same for the same seed.
    """
    chance = random.Random(f"{seed} receipts")
    asks = {task: only_step(path) for task, path in PIPELINES.items()}
    for number in range(most):
        receipt = drawn(chance)
        text = "\n".join(receipt.lines)
        if number % 4 == 3:
            yield _renamed(receipt, text, chance)
            continue
        task = "made_receipt_flat" if number % 4 == 2 else "made_receipt"
        step, answer = asks[task], _as_items(receipt)
        inputs = {"text": text}
        if task == "made_receipt_flat":
            answer, inputs = _as_texts(receipt), {"input": text}
        messages = step.prompt.build(inputs, step.answer)
        yield {
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            "task": task,
            "src": "made by program",
            "response": answer,
            "contract": to_data(step.contract),
        }


def drawn(chance: random.Random) -> Receipt:
    """One receipt."""
    company, address = _company(chance), _address(chance) if chance.random() < 0.7 else None
    date = _date(chance) if chance.random() < 0.85 else None
    number = f"{chance.choice(('', '', 'A-', 'INV', 'R'))}{chance.randint(100, 10 ** chance.randint(4, 8))}"
    number_printed = number if chance.random() < 0.5 else None
    count = chance.choices(range(1, MOST_ITEMS + 1), (20, 30, 25, 15, 10))[0]
    items = tuple(_item(chance) for _ in range(count))
    cents = sum(item.cents for item in items)
    money = chance.choice(_MONEY)
    lines = [company, *([] if address is None else _folded(address, chance))]
    lines += _headers(chance, date, number_printed)
    lines += _item_lines(items, money, chance)
    lines += _sums(cents, money, chance)
    if chance.random() < 0.4:
        lines += chance.sample(_FAREWELLS, chance.randint(1, 2))
    if chance.random() < 0.3:
        lines = [" ".join(line.split()) for line in lines]
    return Receipt(company, date, address, number_printed, items, tuple(lines))


def _company(chance: random.Random) -> str:
    kind = chance.choice(_SECOND)
    first = chance.choice((*_FIRST, *_NAMES))
    words = {0: f"{first} {kind}", 1: f"the {first} {kind}", 2: f"{kind} {first}"}
    words[3] = f"{first} {chance.choice(_FIRST)} {kind}"
    name = f"{words[chance.choice((0, 0, 0, 1, 2, 3))]} {chance.choice(_FORMS)}".strip()[
        :40
    ].strip()
    return name.upper() if chance.random() < 0.8 else name.title()


def _address(chance: random.Random) -> str:
    house = chance.choice(
        (
            f"{chance.randint(1, 399)}",
            f"NO. {chance.randint(1, 99)},",
            f"UNIT {chance.randint(1, 40)},",
        )
    )
    street = chance.choice(_STREETS)
    road = f"JALAN {street}" if chance.random() < 0.25 else f"{street} {chance.choice(_WAYS)}"
    town = chance.choice(_TOWNS)
    code = f"{chance.randint(1000, 99999)}"
    place = f"{code} {town}" if chance.random() < 0.6 else f"{town} {code}"
    return f"{house} {road}, {place}" if chance.random() < 0.7 else f"{house} {road}"


def _folded(address: str, chance: random.Random) -> list[str]:
    if ", " in address and chance.random() < 0.6:
        head, _, tail = address.rpartition(", ")
        return [f"{head},", tail]
    return [address]


def _date(chance: random.Random) -> str:
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(2009, 2025)
    words = {"%d": f"{day:02}", "%m": f"{month:02}", "%Y": f"{year}", "%y": f"{year % 100:02}"}
    words["%b"] = _MONTHS[month - 1]
    found = chance.choice(_DATES)
    for code, printed in words.items():
        found = found.replace(code, printed)
    return found


def _headers(chance: random.Random, date: str | None, number: str | None) -> list[str]:
    time = f"{chance.randint(7, 22):02}:{chance.randint(0, 59):02}"
    found = []
    if chance.random() < 0.4:
        found.append(
            f"TEL {chance.choice(('', '+60 ', '01-'))}{chance.randint(100, 999)} {chance.randint(1000, 9999)}"
        )
    if chance.random() < 0.25:
        found.append(f"GST NO. {chance.randint(10**8, 10**10)}")
    if number is not None:
        found.append(
            f"{chance.choice(('RECEIPT NO.', 'INVOICE', 'BILL', 'DOC NO:', 'INVOICE NO :'))} {number}"
        )
    if date is not None:
        shown = f"{chance.choice(('DATE: ', 'DATE ', '', '', 'Date : '))}{date}"
        found.append(f"{shown} {time}" if chance.random() < 0.4 else shown)
    elif chance.random() < 0.3:
        found.append(f"TIME {time}")
    if chance.random() < 0.25:
        found.append(
            chance.choice(
                (f"TABLE {chance.randint(1, 30)}", f"CASHIER {chance.randint(1, 9)}", "TAX INVOICE")
            )
        )
    chance.shuffle(found)
    if len(found) > 1 and chance.random() < 0.35:
        found[-2:] = ["  ".join(found[-2:])]
    return found


def _item(chance: random.Random) -> Item:
    words = [chance.choice(_GOODS)]
    if chance.random() < 0.5:
        words.insert(0, chance.choice(_KINDS))
    size = chance.choice(_SIZES)
    name = " ".join((*words, size)).strip().upper()[:30].strip()
    most = chance.choice((900, 2_500, 9_900, 150_000))
    cents = chance.randint(50, most)
    return Item(name, cents - cents % 10 if chance.random() < 0.5 else cents)


def _item_lines(items: Sequence[Item], money: str, chance: random.Random) -> list[str]:
    style = chance.choice((0, 0, 1, 1, 2, 3))
    width = chance.choice((18, 22, 26))
    counts = chance.random() < 0.2
    found = (
        []
        if chance.random() < 0.8
        else [chance.choice(("ITEM PRICE", "DESCRIPTION AMOUNT", "QTY ITEM AMT"))]
    )
    for item in items:
        price = _amount(item.cents) if style != 3 else f"{money}{_amount(item.cents)}"
        shown = f"1 {item.name}" if counts else item.name
        if style == 0:
            found.append(f"{shown:<{width}}{price:>9}")
        elif style == 2:
            found += [shown, price]
        else:
            found.append(f"{shown} {price}")
    return found


def _sums(cents: int, money: str, chance: random.Random) -> list[str]:
    label, wide = chance.choice(_TOTALS), chance.random() < 0.4

    def line(what: str, amount: int) -> str:
        printed = f"{money}{_amount(amount)}"
        return f"{what:<18}{printed:>9}" if wide else f"{what} {printed}"

    found = []
    tax = round(cents * chance.choice((5, 6, 7, 19, 20)) / 100)
    if chance.random() < 0.25:
        found.append(line(chance.choice(("SUBTOTAL", "SUB TOTAL", "NET")), cents - tax))
        found.append(line(chance.choice(("GST 6%", "VAT", "TAX")), tax))
    found.append(line(label, cents))
    way = chance.random()
    if way < 0.4:
        given = -(-(cents + 1) // 500) * 500
        found += [line("CASH", given), line("CHANGE", given - cents)]
    elif way < 0.65:
        found.append(line(chance.choice(("CARD", "VISA", "MASTERCARD", "PAID")), cents))
    return found


def _amount(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02}"


def _as_items(receipt: Receipt) -> dict[str, Any]:
    items = [{"name": item.name, "price": item.cents / 100} for item in receipt.items]
    return {
        "company": receipt.company,
        "date": receipt.date,
        "items": items,
        "total": receipt.cents / 100,
    }


def _as_texts(receipt: Receipt) -> dict[str, Any]:
    found = {"company": receipt.company, "date": receipt.date, "address": receipt.address}
    return {**found, "total": receipt.total_printed}


def _renamed(receipt: Receipt, text: str, chance: random.Random) -> dict[str, Any]:
    """Some of the fields under other names, with a contract to match."""
    name = {own: chance.choice((own, *others)) for own, others in FIELDS.items()}
    word = {"type": ["string", "null"]}
    item = {
        "type": "object",
        "properties": {name["name"]: {"type": "string"}, name["price"]: {"type": "number"}},
        "required": [name["name"], name["price"]],
    }
    items = [{name["name"]: one.name, name["price"]: one.cents / 100} for one in receipt.items]
    parts: dict[str, tuple[Mapping[str, Any], Any]] = {
        "company": ({"type": "string"}, receipt.company),
        "date": (word, receipt.date),
        "address": (word, receipt.address),
        "number": (word, receipt.number),
        "items": ({"type": "array", "items": item}, items),
        "total": ({"type": "number"}, receipt.cents / 100),
    }
    kept = chance.sample(list(parts), chance.randint(2, len(parts)))
    schema = {
        "type": "object",
        "properties": {name[part]: parts[part][0] for part in kept},
        "required": [name[part] for part in kept],
    }
    fields = ", ".join(name[part] for part in kept)
    return {
        "prompt": chance.choice(WORDINGS).format(fields=fields, text=text),
        "task": "made_receipt_fields",
        "src": "made by program",
        "response": {name[part]: parts[part][1] for part in kept},
        "contract": {"kind": "json", "schema": schema},
    }


def only_step(path: Path) -> Llm:
    """The one step of a pipeline that asks one thing."""
    pipeline = load(path).definition
    core = core_of(pipeline.steps[0], pipeline)
    assert isinstance(core, Llm)
    return core


__all__ = ["Item", "Receipt", "drawn", "only_step", "receipt_rows"]
