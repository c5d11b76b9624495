"""What a normaliser answers for a value that cannot be stored: the reason, as the quarantine shows it."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Rejection:
    reason: str


# The value as it is stored; None when there is nothing left of it (blank, or a NaN); or why it cannot be stored.
Normalised: TypeAlias = str | Rejection | None
