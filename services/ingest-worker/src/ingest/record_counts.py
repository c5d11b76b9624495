"""How far the records topic is loaded, how many rows came of it, and that datasets have changed by them."""

from collections.abc import Collection, Mapping, Sequence

from aiokafka import ConsumerRecord

from ingest.manifest import Manifest, raise_version

# Locks the partition's row: of two loaders of the same messages the second sees that they are counted.
_DONE_TO = """
    INSERT INTO ingest.record_progress AS p (topic, partition) VALUES ($1, $2)
    ON CONFLICT (topic, partition) DO UPDATE SET updated_at = now()
      RETURNING next_offset
"""
_ADVANCE = """
    UPDATE ingest.record_progress
       SET next_offset = greatest(next_offset, $3), accepted = accepted + $4, dead = dead + $5
     WHERE topic = $1 AND partition = $2
"""
_COUNT_DAY = """
    INSERT INTO ingest.record_days AS d (dataset, day, accepted)
         VALUES ($1, (now() AT TIME ZONE 'UTC')::date, $2)
    ON CONFLICT (dataset, day) DO UPDATE SET accepted = d.accepted + $2
"""


class RecordCounts:
    """Raises Transient when Postgres is away, as the manifest does."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    async def add(self, messages: Sequence[ConsumerRecord], loaded: Mapping[str, Collection[int]]) -> None:
        """In one transaction: how far, how many, and new versions of the datasets.

        `loaded`: of each dataset the places of its messages that became rows; all others are dead. What is delivered
        again raises versions again and counts nothing.
        """
        topic, ends = messages[0].topic, _next_offsets(messages)
        async with self._manifest.transaction() as connection:
            done = {part: await connection.fetchval(_DONE_TO, topic, part) for part in sorted(ends)}
            new = [place for place, one in enumerate(messages) if one.offset >= done[one.partition]]
            rows = {place for places in loaded.values() for place in places}
            for part, end in sorted(ends.items()):
                mine = [place for place in new if messages[place].partition == part]
                accepted = sum(place in rows for place in mine)
                await connection.execute(_ADVANCE, topic, part, end, accepted, len(mine) - accepted)
            for dataset, places in sorted(loaded.items()):
                await connection.execute(_COUNT_DAY, dataset, len(set(places).intersection(new)))
                await raise_version(connection, dataset)


def _next_offsets(messages: Sequence[ConsumerRecord]) -> dict[int, int]:
    """Within a partition messages come in order, so the last one says where to go on."""
    return {one.partition: one.offset + 1 for one in messages}
