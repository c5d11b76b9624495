"""Events are encoded without their models, for speed; here both must agree."""

from datetime import UTC, datetime
from typing import Any

import pytest

from common import events
from common.ids import new_id
from credits.outbox import encoded


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("granted", events.CreditsGranted),
        ("captured", events.CreditsCaptured),
        ("refunded", events.CreditsRefunded),
        ("low_balance", events.LowBalance),
        ("exhausted", events.CreditsExhausted),
    ],
)
def test_an_encoded_event_is_what_its_model_reads_and_no_more(kind: str, model: type[events.CreditsEvent]) -> None:
    ids = {name: str(new_id()) for name in ("event_id", "user_id", "entry_id", "hold_id")}
    amounts = {"amount_mc": -5, "posted_mc": 7, "available_mc": 3, "threshold_mc": 9}
    record: dict[str, Any] = {"seq": 1, "kind": kind, "schema_version": 1, "occurred_at": datetime.now(UTC)}
    raw = encoded(record | ids | amounts)
    event = model.model_validate_json(raw, extra="forbid")
    assert event.model_dump(mode="json").items() <= {
        **record, **ids, **amounts, "occurred_at": event.model_dump(mode="json")["occurred_at"]
    }.items()  # fmt: skip
    assert event.occurred_at == record["occurred_at"]
