"""Personal data is known by its form, and numbers of another kind are not."""

import pytest

from rft.data.hygiene.personal_data import find_personal, find_personal_in, masked, with_masks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jane.doe+x@mail.example.org.", "Write to [mail]."),
        ("Call +44 20 7946 0958 or (415) 555-2671, 415-555-2671", "Call [phone] or [phone], [phone]"),
        ("4111 1111 1111 1111 is a card, 4111111111111111 too", "[card] is a card, [card] too"),  # Visa's test number
        ("378282246310005", "[card]"),  # American Express' test number
        ("4111 1111 1111 1112 has a wrong check digit", "4111 1111 1111 1112 has a wrong check digit"),
        ("GB82 WEST 1234 5698 7654 32 and DE89370400440532013000", "[iban] and [iban]"),  # ISO 13616's examples
        ("GB83 WEST 1234 5698 7654 32", "GB83 WEST 1234 5698 7654 32"),
        ("token hf_abcdefghijklmnopqrstuvwxyz", "token [key]"),
        ("3,456,789 people on 2024-11-28 at 12:30, x = 3.14159265, 1-2-3", None),
        ("version 1.2.3.4, 10.0.0.1, ISBN 978-3-16-148410-0", None),
        ("reasoning@home, @user, a @ b", None),
        ("Call me at 4155552671 or dial 5552671.", "Call me at [phone] or dial [phone]."),
        ("Phone number: 4155552671, tel. 030/1234567", "Phone number: [phone], tel. [phone]"),
        ("Telefon (030) 1234567? Mobile no. is 0171 2345678", "Telefon (030) 1234567? Mobile no. is [phone]"),
        ("+442079460958 and 00442079460958 and 0044 20 7946 0958", "[phone] and [phone] and [phone]"),
        ("4155552671 rows, id 4155552671, population 12345678, 0000012345678", None),
        ("mobile users: 12345678, a call took 1234567.5 s, calls 12345678, call 911, phone 16", None),
        ("2 ** 40 = 1099511627776; the recall 9876543; a cellular mass of 1234567", None),
    ],
)
def test_masks(text: str, expected: str | None) -> None:
    assert masked(text) == (text if expected is None else expected)


def test_whole_numbers_are_searched_like_texts() -> None:
    row = {"card": 4111111111111111, "ids": [12, 4111111111111112], "share": 0.5, "is_new": True}  # a wrong check digit
    assert [one.kind for one in find_personal_in(row)] == ["card"]
    assert with_masks(row) == row | {"card": "[card]"}


def test_digits_in_a_field_about_phones() -> None:
    row = {
        "phone": 4155552671,
        "customer_tel": ["5552671"],
        "mobileNumber": "0171234567",
        "id": 4155552671,
        "n": "5552671",
    }
    assert [one.kind for one in find_personal_in(row)] == ["phone"] * 3
    masks = {"phone": "[phone]", "customer_tel": ["[phone]"], "mobileNumber": "[phone]"}
    assert with_masks(row) == row | masks
    assert with_masks({"telemetry": 4155552671, "headphones": 4155552671}) == {
        "telemetry": 4155552671,
        "headphones": 4155552671,
    }


def test_places() -> None:
    text = "Call +44 20 7946 0958, or a@b.org"
    assert [(one.kind, text[one.start : one.end]) for one in find_personal(text)] == [
        ("phone", "+44 20 7946 0958"),
        ("mail", "a@b.org"),
    ]
