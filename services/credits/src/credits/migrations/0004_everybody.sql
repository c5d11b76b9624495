-- The statement over every account, newest first. seq only grows, so a charge pays for one more entry at the right edge
-- of an index. Building it on a ledger that is there takes about a second per two million entries, while charges wait.
CREATE INDEX entries_of_all ON entries (seq);
-- What people did is rare among what queries cost, and looked for most.
CREATE INDEX entries_by_people ON entries (seq) WHERE kind <> 'capture';
