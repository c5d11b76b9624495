"""E-mail addresses: trimmed, lower case, within the limits of RFC 5321."""

import re

from common.normalise.rejection import Normalised, Rejection

REASON = "email_syntax"
_LOCAL_MAX, _DOMAIN_MAX, _WHOLE_MAX = 64, 253, 254  # bytes; RFC 5321 4.5.3.1, less the angle brackets of a path
# Beyond ASCII, letters and digits only (RFC 6531 allows more, senders do not).
_ATOM = r"(?:[a-z0-9!#$%&'*+/=?^_`{|}~-]|[^\x00-\x7f\W])+"
_LOCAL = re.compile(rf'{_ATOM}(?:\.{_ATOM})*|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"')
_LABEL = r"(?:[a-z0-9]|[^\x00-\x7f\W])(?:(?:[a-z0-9-]|[^\x00-\x7f\W]){0,61}(?:[a-z0-9]|[^\x00-\x7f\W]))?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?!\d+$){_LABEL}")


def email(value: str) -> Normalised:
    """`Ada@Example.COM ` is `ada@example.com`. A host without a dot, or an address literal, is not one of ours."""
    address = value.strip().lower()
    if not address:
        return None
    local, _, domain = address.rpartition("@")
    within = (
        len(local.encode()) <= _LOCAL_MAX
        and len(domain.encode()) <= _DOMAIN_MAX
        and len(address.encode()) <= _WHOLE_MAX
    )
    if within and _LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain):
        return address
    return Rejection(REASON)
