"""How far the records topic is loaded, how many rows came of it, and that datasets have changed by them."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
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

    async def add(
        self,
        messages: Sequence[ConsumerRecord],
        loaded: Mapping[str, Collection[int]],
        erased: Collection[int] = (),
    ) -> None:
        """In one transaction: how far, how many, and new versions of the datasets.

        `loaded`: of each dataset the places of its messages that became rows; `erased`: those that are left out; all
        others are dead. What is delivered again raises versions again and counts nothing.
        """
        topic = messages[0].topic
        partitions = np.array([one.partition for one in messages], np.int64)
        offsets = np.array([one.offset for one in messages], np.int64)
        row, left_out = np.zeros(len(messages), np.bool_), np.zeros(len(messages), np.bool_)
        for places in loaded.values():
            row[list(places)] = True
        left_out[list(erased)] = True
        new = np.zeros(len(messages), np.bool_)
        async with self._manifest.transaction() as connection:
            for part in np.unique(partitions).tolist():
                mine = partitions == part
                mine_new = mine & (offsets >= await connection.fetchval(_DONE_TO, topic, part))
                new |= mine_new
                accepted, dead = int((mine_new & row).sum()), int((mine_new & ~row & ~left_out).sum())
                await connection.execute(_ADVANCE, topic, part, int(offsets[mine].max()) + 1, accepted, dead)
            for dataset, places in sorted(loaded.items()):
                await connection.execute(_COUNT_DAY, dataset, int(new[list(places)].sum()))
                await raise_version(connection, dataset)
