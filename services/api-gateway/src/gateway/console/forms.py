"""A small HTML form's fields."""

from urllib.parse import parse_qsl

from common.errors import InvalidRequest

_FIELDS_MAX = 20


def form_fields(body: bytes) -> dict[str, str]:
    """Fields of application/x-www-form-urlencoded; of one that comes twice, the last. Raises InvalidRequest."""
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX))
    except ValueError:
        raise InvalidRequest("This form cannot be read") from None
