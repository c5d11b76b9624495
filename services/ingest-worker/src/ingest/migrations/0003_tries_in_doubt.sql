-- Unlike attempts, which forgets the tries that an outage ended: a chunk begun twice may have left rows or burnt tokens.
ALTER TABLE chunks ADD COLUMN begun integer NOT NULL DEFAULT 0;
