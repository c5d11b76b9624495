"""Phone numbers: E.164, as the phonenumbers library gives it, extensions cut."""

import phonenumbers

from common.normalise.rejection import Normalised, Rejection

REASON = "phone_invalid"
_LENGTH_MAX = 250  # the library refuses more, after work


def phone(value: str, region: str) -> Normalised:
    """`(212) 555-0100` in US is `+12125550100`. The region counts only for numbers written without a +."""
    written = value.strip()
    if not written:
        return None
    if len(written) > _LENGTH_MAX:
        return Rejection(REASON)
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return Rejection(REASON)
    if not phonenumbers.is_valid_number(number):
        return Rejection(REASON)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
