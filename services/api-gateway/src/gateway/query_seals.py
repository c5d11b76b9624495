"""Cursors and quotes leave the house and come back: sealed, so that nobody reads them, changes them or makes their own.

Encrypted, because the place of a row holds values of it, and authenticated with SIGNING_KEYS: the first seals, all of
them open, so a key is rotated by putting a new one in front and taking the old one away when its seals have ended.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Any

import orjson

_NONCE_BYTES = 12
_TAG_BYTES = 16


class BadSeal(Exception):
    """Not one of ours, of another purpose, or changed on its way."""


class Seals:
    """Raises ValueError without a key."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("at least one signing key is needed")
        self._keys = [(_derived(b"seal", key), _derived(b"sign", key)) for key in keys]

    def seal(self, purpose: str, content: Any) -> str:
        encrypting, signing = self._keys[0]
        nonce = os.urandom(_NONCE_BYTES)
        hidden = _crossed(orjson.dumps(content), encrypting, nonce)
        return base64.urlsafe_b64encode(nonce + _tag(signing, purpose, nonce, hidden) + hidden).decode().rstrip("=")

    def open(self, purpose: str, sealed: str) -> Any:
        """What was sealed for this purpose. Raises BadSeal."""
        try:
            raw = base64.b64decode(sealed.encode("ascii") + b"=" * (-len(sealed) % 4), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise BadSeal from None
        nonce, tag = raw[:_NONCE_BYTES], raw[_NONCE_BYTES : _NONCE_BYTES + _TAG_BYTES]
        hidden = raw[_NONCE_BYTES + _TAG_BYTES :]
        for encrypting, signing in self._keys:
            if hmac.compare_digest(tag, _tag(signing, purpose, nonce, hidden)):
                return orjson.loads(_crossed(hidden, encrypting, nonce))
        raise BadSeal


def _derived(use: bytes, key: str) -> bytes:
    return hmac.digest(key.encode(), b"bigdata " + use, "sha256")


def _tag(signing: bytes, purpose: str, nonce: bytes, hidden: bytes) -> bytes:
    return hmac.digest(signing, b"\x00".join((purpose.encode(), nonce, hidden)), "sha256")[:_TAG_BYTES]


def _crossed(data: bytes, encrypting: bytes, nonce: bytes) -> bytes:
    """A stream cipher from SHAKE-256 with key and nonce in front; the same call turns it back."""
    stream = hashlib.shake_256(encrypting + nonce).digest(len(data))
    return (int.from_bytes(data) ^ int.from_bytes(stream)).to_bytes(len(data))
