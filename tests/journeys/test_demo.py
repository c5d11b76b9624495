"""What a newcomer sees first must be true."""

from devstack import demo
from devstack.stack import Stack


async def test_the_demo_loads_real_files_charges_each_query_and_logs_each_request(stack: Stack) -> None:
    summary = await demo.run(stack)

    flights, people = summary.uploads["flights"], summary.uploads["people"]
    assert flights["state"] == "completed"
    assert flights["rows"] == {"total": 336_776, "accepted": 336_776, "rejected": 0}
    assert people["state"] == "completed_with_rejects"
    assert people["rows"]["total"] == 100_000
    assert people["rows"]["accepted"] + people["rows"]["rejected"] == 100_000
    assert 100 < people["rows"]["rejected"] < 300
    assert (summary.balance_before, summary.balance_after) == (10, 0)
    assert summary.refused == "Insufficient credits"
    assert summary.audit_rows == 11  # ten queries that were answered and the one that was refused
