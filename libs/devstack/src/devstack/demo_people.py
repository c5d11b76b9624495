"""People who do not exist, as suppliers send them: duplicates, phones in every notation, rows that do not fit."""

import csv
import random
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

_FIRST = [
    "Aarav",
    "Prathap",
    "Meera",
    "Ananya",
    "Rohan",
    "Maria",
    "João",
    "Lucia",
    "Mateo",
    "Emma",
    "Noah",
    "Olivia",
    "Liam",
    "Søren",
    "Freya",
    "Chloé",
    "Hugo",
    "Zoë",
    "Kwame",
    "Amina",
    "Yusuf",
    "Leila",
    "Hiroshi",
    "Yuki",
    "Mei",
    "Wei",
    "Ivan",
    "Olga",
    "Piotr",
    "Zofia",
]
_LAST = [
    "Sharma",
    "Iyer",
    "Patel",
    "Nair",
    "Silva",
    "Santos",
    "García",
    "Rossi",
    "Smith",
    "Jones",
    "Brown",
    "Nguyen",
    "Larsen",
    "Dubois",
    "Müller",
    "Schmidt",
    "Okafor",
    "Mensah",
    "Haddad",
    "Tanaka",
    "Sato",
    "Chen",
    "Wang",
    "Petrov",
    "Kowalski",
    "Novák",
]
# city, country as suppliers spell it, national prefix, length of the rest of a valid mobile number
_PLACES = (
    ("Delhi", "IN", "+91 98", 8),
    ("Mumbai", "India", "+91 99", 8),
    ("Berlin", "Germany", "+49 151", 8),
    ("Lisboa", "PT", "+351 91", 7),
    ("London", "United Kingdom", "+44 7400", 6),
    ("New York", "US", "+1 212", 7),
    ("Paris", "fr", "+33 6", 8),
    ("São Paulo", "Brazil", "+55 11 9", 8),
)
_HEADER = (
    "Email Address",
    "mobile",
    "fname",
    "last",
    "town",
    "country_name",
    "age",
    "source",
    "source_id",
    "updated_at",
)
_BASE = datetime(2026, 1, 1, tzinfo=UTC)
# Shares of the rows. A duplicate is a newer version of somebody already in the file.
_DUPLICATES, _DIRTY_PHONES, _BAD_ROWS = 0.10, 0.05, 0.002


def write_people(file: Path, rows: int, seed: int = 2026) -> None:
    """Write the same CSV for the same seed. About 0.2 % of its rows belong into quarantine."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    people: list[list[str]] = []
    with file.open("w", encoding="utf-8", newline="") as opened:
        out = csv.writer(opened)
        out.writerow(_HEADER)
        for number in range(rows):
            if people and chance.random() < _DUPLICATES:
                person = _newer(chance, chance.choice(people), number)
            else:
                person = _person(chance, number)
                people.append(person)
            out.writerow(_damaged(chance, person) if chance.random() < _BAD_ROWS else person)


def _person(chance: random.Random, number: int) -> list[str]:
    first, last = chance.choice(_FIRST), chance.choice(_LAST)
    city, country, prefix, digits = chance.choice(_PLACES)
    return [
        f"{_ascii(first)}.{_ascii(last)}.{number}@Example.COM",
        _phone(chance, prefix, digits),
        first if chance.random() < 0.9 else f"  {first} ",  # noqa: PLR2004 - one in ten is badly trimmed
        last,
        city,
        country,
        str(chance.randint(18, 90)),
        "demo",
        str(number),
        (_BASE + timedelta(seconds=number)).isoformat(),
    ]


def _ascii(name: str) -> str:
    return unicodedata.normalize("NFKD", name.replace("ø", "o")).encode("ascii", "ignore").decode()


def _phone(chance: random.Random, prefix: str, digits: int) -> str:
    number = "".join(str(chance.randint(0, 9)) for _ in range(digits))
    if chance.random() < _DIRTY_PHONES:
        return chance.choice((f"({prefix}) {number[:3]}-{number[3:]}", f"{prefix}{number} ext. 12", "n/a", "12"))
    return f"{prefix} {number}"


def _newer(chance: random.Random, person: list[str], number: int) -> list[str]:
    return [*person[:6], str(chance.randint(18, 90)), *person[7:9], (_BASE + timedelta(seconds=number)).isoformat()]


def _damaged(chance: random.Random, person: list[str]) -> list[str]:
    fault = chance.randrange(4)
    if fault == 0:
        return [*person[:6], "forty-two", *person[7:]]  # an age that is no number
    if fault == 1:
        return [*person[:9], "31/31/2026"]  # a date that does not exist
    if fault == 2:  # noqa: PLR2004
        return person[:4]  # a row that ends early
    return [*person[:6], "99999999999999999999", *person[7:]]  # an integer that would wrap
