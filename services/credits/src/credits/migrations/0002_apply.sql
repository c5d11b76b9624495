-- Group commit: many operations of many accounts in one transaction, one outcome each, in arrival order.
--
-- Two phases, and each needs its own snapshot (READ COMMITTED gives every statement a fresh one):
--   1. lock the touched accounts in id order, like everybody who locks accounts: no deadlock;
--   2. only then look for replays and balances. One statement for both would look with the snapshot from before the
--      wait, meet the same key from another replica as a unique violation and lose the whole batch.
-- Decisions are taken one after the other (available 10; 8, 5, 2: yes, no, yes), which window sums cannot do.
-- Nothing is written before every operation is decided.
--
-- State is kept in arrays. p_ is what operation i asks, o_ what it is answered, op_ where it finds the rest: accounts
-- (a_), idempotency keys (k_), holds (h_), refunded captures (e_), each numbered once in the batch. The loop is the hot
-- path: it stores what must be decided in order, and the statements after it work out what follows from that.

CREATE FUNCTION apply(
    p_op text[], p_user uuid[], p_hold uuid[], p_entry uuid[], p_amount bigint[], p_ttl integer[],
    p_key text[], p_digest bytea[], p_actor text[], p_reason text[],
    p_query uuid[], p_dataset text[], p_rows bigint[], p_price_version text[], p_price text[],
    p_duration double precision[], p_refund_reason text[],
    p_status integer[], p_headers text[], p_body bytea[]
) RETURNS TABLE (
    code text, replayed boolean, hold_id uuid, entry_id uuid, state text,
    amount_mc bigint, posted_mc bigint, available_mc bigint, needed_mc bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = credits, pg_temp
-- Look-ups by key, always: the plan must not depend on how empty the tables were when a connection ran it first.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    c_most CONSTANT bigint := 1000000000000000;
    n CONSTANT integer := cardinality(p_op);
    -- Full length from the start: an array whose first assignment is to place 3 would begin at 3.
    c_bigints CONSTANT bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    c_texts CONSTANT text[] := array_fill(NULL::text, ARRAY[n]);
    v_now timestamptz;
    v_op text; v_code text; v_replay boolean; v_delta bigint; v_before bigint;
    a integer; k integer; h integer; e integer;
    op_account integer[]; op_key integer[]; op_hold integer[];
    a_id uuid[]; a_new uuid[]; a_posted bigint[]; a_held bigint[]; a_low bigint[];
    k_digest bytea[]; k_hold uuid[]; k_entry uuid[]; k_amount bigint[]; k_posted bigint[]; k_available bigint[];
    k_op integer[];  -- the operation that took the key in this batch; null: as it was
    h_id uuid[]; h_account integer[]; h_amount bigint[]; h_state text[]; h_captured bigint[]; h_key text[];
    h_digest bytea[]; h_expires timestamptz[]; h_was text[];
    h_opened integer[]; h_closed integer[];  -- the operations that did so in this batch
    e_id uuid[]; e_account integer[]; e_left bigint[];
    o_code text[] := c_texts; o_state text[] := c_texts; o_replayed boolean[] := array_fill(false, ARRAY[n]);
    o_hold uuid[] := p_hold; o_entry uuid[] := array_fill(NULL::uuid, ARRAY[n]);
    o_amount bigint[] := p_amount; o_delta bigint[] := c_bigints;
    o_posted bigint[] := c_bigints; o_available bigint[] := c_bigints; o_needed bigint[] := c_bigints;
    v_keys boolean := array_remove(p_key, NULL) <> '{}';
    v_any_opened boolean := false; v_any_changed boolean := false; v_any_closed boolean := false;
    v_any_key boolean := false; v_any_entry boolean := false;
    x_op integer[] := '{}'; x_kind text[] := '{}';  -- events besides those of the entries
BEGIN
    -- Accounts opened here. In id order, and before any lock is held: two batches cannot wait for each other.
    IF 'open_account' = ANY (p_op) THEN
        WITH opened AS (
            INSERT INTO accounts (user_id, low_balance)
            SELECT DISTINCT ON (wanted.user_id) wanted.user_id, wanted.low
              FROM unnest(p_op, p_user, p_amount) WITH ORDINALITY AS wanted (op, user_id, low, no)
             WHERE wanted.op = 'open_account'
             ORDER BY wanted.user_id, wanted.no
                ON CONFLICT DO NOTHING
         RETURNING accounts.user_id)
        SELECT array_agg(user_id) INTO a_new FROM opened;
    END IF;

    -- Phase 1. A hold and an entry never change their user, so finding it needs no lock.
    SELECT array_agg(user_id) INTO a_id
      FROM (SELECT user_id FROM accounts
             WHERE user_id = ANY (ARRAY(
                   SELECT unnest(p_user)
                    UNION SELECT held.user_id FROM holds held WHERE held.hold_id = ANY (p_hold)
                    UNION SELECT entry.user_id FROM entries entry WHERE entry.entry_id = ANY (p_entry)))
             ORDER BY user_id FOR UPDATE) locked;

    -- Phase 2. Database time, read under the locks: whatever expires is judged by it.
    v_now := clock_timestamp();
    SELECT array_agg(posted ORDER BY user_id), array_agg(held ORDER BY user_id), array_agg(low_balance ORDER BY user_id)
      INTO a_posted, a_held, a_low
      FROM accounts WHERE user_id = ANY (a_id);
    IF 'refund' = ANY (p_op) THEN
        SELECT array_agg(entry_id), array_agg(array_position(a_id, user_id)), array_agg(-amount - coalesce((
                   SELECT sum(refund.amount)::bigint FROM entries refund
                    WHERE refund.reference = entry.entry_id AND refund.kind = 'refund'), 0))
          INTO e_id, e_account, e_left
          FROM entries entry WHERE entry_id = ANY (p_entry) AND kind = 'capture';
        FOR i IN 1..n LOOP
            IF p_op[i] = 'refund' THEN
                p_user[i] := a_id[e_account[array_position(e_id, p_entry[i])]];
            END IF;
        END LOOP;
    END IF;
    SELECT array_agg(array_position(a_id, user_id) ORDER BY no) INTO op_account
      FROM unnest(p_user) WITH ORDINALITY AS asked (user_id, no);
    IF v_keys THEN
        -- Operations without a key get numbers after all others, where nothing is known.
        SELECT array_agg(key_no ORDER BY no) INTO op_key
          FROM (SELECT no, dense_rank() OVER (ORDER BY key IS NULL, user_id, key COLLATE "C") AS key_no
                  FROM unnest(p_user, p_key) WITH ORDINALITY AS asked (user_id, key, no)) numbered;
        -- A key is remembered for 24 hours, however late the purge comes by.
        SELECT array_agg(known.request_digest ORDER BY asked.user_id, asked.key COLLATE "C"),
               array_agg(known.hold_id ORDER BY asked.user_id, asked.key COLLATE "C"),
               array_agg(known.entry_id ORDER BY asked.user_id, asked.key COLLATE "C"),
               array_agg(known.amount ORDER BY asked.user_id, asked.key COLLATE "C"),
               array_agg(known.posted_after ORDER BY asked.user_id, asked.key COLLATE "C"),
               array_agg(known.available_after ORDER BY asked.user_id, asked.key COLLATE "C"),
               array_agg(NULL::integer)
          INTO k_digest, k_hold, k_entry, k_amount, k_posted, k_available, k_op
          FROM (SELECT DISTINCT user_id, key FROM unnest(p_user, p_key) AS wanted (user_id, key)
                 WHERE key IS NOT NULL) asked
          LEFT JOIN LATERAL (
               SELECT * FROM idempotency row
                WHERE row.user_id = asked.user_id AND row.key = asked.key
                  AND row.created_at > v_now - interval '24 hours') known ON true;
    END IF;
    -- The holds named by the operations, then those found by their keys: op_hold[n + k] is the hold of key k.
    SELECT array_agg(hold_no ORDER BY no) INTO op_hold
      FROM (SELECT no, dense_rank() OVER (ORDER BY hold_id) AS hold_no
              FROM unnest(p_hold || k_hold) WITH ORDINALITY AS asked (hold_id, no)) numbered;
    SELECT array_agg(asked.hold_id ORDER BY asked.hold_id),
           array_agg(array_position(a_id, hold.user_id) ORDER BY asked.hold_id),
           array_agg(hold.amount ORDER BY asked.hold_id), array_agg(hold.state ORDER BY asked.hold_id),
           array_agg(hold.captured ORDER BY asked.hold_id), array_agg(hold.idempotency_key ORDER BY asked.hold_id),
           array_agg(hold.request_digest ORDER BY asked.hold_id), array_agg(hold.expires_at ORDER BY asked.hold_id),
           array_agg(NULL::integer)
      INTO h_id, h_account, h_amount, h_state, h_captured, h_key, h_digest, h_expires, h_opened
      FROM (SELECT DISTINCT hold_id FROM unnest(p_hold || k_hold) AS wanted (hold_id)) asked
      LEFT JOIN holds hold ON hold.hold_id = asked.hold_id;
    h_was := h_state;
    h_closed := h_opened;
    FOR i IN 1..cardinality(h_id) LOOP
        IF h_expires[i] <= v_now AND h_state[i] = 'open' AND h_account[i] IS NOT NULL THEN
            h_state[i] := 'expired';
            a_held[h_account[i]] := a_held[h_account[i]] - h_amount[i];
            v_any_changed := true;
        END IF;
    END LOOP;

    -- Decide, in arrival order.
    FOR i IN 1..n LOOP
        v_op := p_op[i];
        v_code := NULL;
        v_replay := false;
        v_delta := NULL;
        h := op_hold[i];
        IF v_op = 'capture' OR v_op = 'release' OR v_op = 'extend' THEN
            a := h_account[h];
            IF a IS NULL OR op_account[i] <> a THEN
                v_code := 'unknown_hold';
                a := NULL;
            ELSIF h_state[h] <> 'open' THEN
                o_amount[i] := CASE h_state[h] WHEN 'captured' THEN h_captured[h] ELSE h_amount[h] END;
                v_replay := CASE v_op WHEN 'capture' THEN h_state[h] = 'captured' AND h_captured[h] = p_amount[i]
                                      WHEN 'release' THEN h_state[h] = 'released' ELSE false END;
                IF NOT v_replay THEN
                    v_code := 'hold_closed';
                END IF;
            ELSIF v_op = 'extend' THEN
                h_expires[h] := greatest(h_expires[h], v_now + make_interval(secs => p_ttl[i]));
                o_amount[i] := h_amount[h];
                v_any_changed := true;
            ELSIF p_amount[i] > h_amount[h] THEN
                v_code := 'capture_exceeds_hold';
                o_amount[i] := h_amount[h];
            ELSE
                a_held[a] := a_held[a] - h_amount[h];
                h_closed[h] := i;
                v_any_closed := true;
                IF v_op = 'capture' THEN
                    h_state[h] := 'captured';
                    h_captured[h] := p_amount[i];
                    v_delta := -p_amount[i];
                ELSE
                    h_state[h] := 'released';
                    o_amount[i] := h_amount[h];
                END IF;
            END IF;
            IF a IS NOT NULL THEN
                o_state[i] := h_state[h];
            END IF;

        ELSIF v_op = 'reserve' THEN
            a := op_account[i];
            IF a IS NULL THEN
                v_code := 'unknown_user';
            ELSIF h_state[h] IS NOT NULL THEN
                -- This very hold is there already: the caller asks again because it did not hear the answer.
                IF h_account[h] = a AND h_digest[h] = p_digest[i] AND h_key[h] IS NOT DISTINCT FROM p_key[i] THEN
                    v_replay := true;
                ELSE
                    v_code := 'idempotency_mismatch';
                END IF;
            ELSIF p_key[i] IS NOT NULL THEN
                k := op_key[i];
                IF k_digest[k] <> p_digest[i] THEN
                    v_code := 'idempotency_mismatch';
                ELSIF k_digest[k] IS NOT NULL THEN
                    -- What was released or has expired cost nothing, so the key may try again with a new hold.
                    h := op_hold[coalesce(k_op[k], n + k)];
                    v_replay := coalesce(h_state[h] IN ('open', 'captured'), false);
                    h := CASE WHEN v_replay THEN h ELSE op_hold[i] END;
                END IF;
            END IF;
            IF v_code IS NOT NULL THEN
                NULL;
            ELSIF v_replay THEN
                o_hold[i] := h_id[h];
                o_state[i] := h_state[h];
                o_amount[i] := CASE h_state[h] WHEN 'captured' THEN h_captured[h] ELSE h_amount[h] END;
            ELSIF p_amount[i] > a_posted[a] - a_held[a] THEN
                v_code := 'insufficient_credits';
                o_needed[i] := p_amount[i];
            ELSE
                a_held[a] := a_held[a] + p_amount[i];
                h_account[h] := a;
                h_amount[h] := p_amount[i];
                h_state[h] := 'open';
                h_opened[h] := i;
                v_any_opened := true;
                o_state[i] := 'open';
                -- For a retry in this very batch.
                h_digest[h] := p_digest[i];
                h_key[h] := p_key[i];
                h_expires[h] := v_now + make_interval(secs => p_ttl[i]);
            END IF;

        ELSIF v_op = 'open_account' THEN
            a := op_account[i];
            v_replay := a_new IS NULL OR array_position(a_new, p_user[i]) IS NULL;
            a_low[a] := p_amount[i];
            o_amount[i] := NULL;

        ELSE  -- grant, set_balance, refund
            a := op_account[i];
            k := op_key[i];
            IF a IS NULL THEN
                v_code := CASE v_op WHEN 'refund' THEN 'unknown_entry' ELSE 'unknown_user' END;
            ELSIF k_digest[k] = p_digest[i] THEN
                v_replay := true;
            ELSIF k_digest[k] IS NOT NULL THEN
                v_code := 'idempotency_mismatch';
            ELSE
                v_delta := CASE v_op WHEN 'set_balance' THEN p_amount[i] - a_posted[a] ELSE p_amount[i] END;
                IF a_posted[a] + v_delta NOT BETWEEN a_held[a] AND c_most THEN
                    v_code := 'amount_out_of_range';
                ELSIF v_op = 'refund' THEN
                    e := array_position(e_id, p_entry[i]);
                    IF e_left[e] < p_amount[i] THEN
                        v_code := 'refund_exceeds_capture';
                    ELSE
                        e_left[e] := e_left[e] - p_amount[i];
                    END IF;
                END IF;
            END IF;
        END IF;

        IF v_code IS NOT NULL THEN
            o_code[i] := v_code;
        ELSIF v_delta <> 0 THEN
            v_before := a_posted[a];
            a_posted[a] := v_before + v_delta;
            o_delta[i] := v_delta;
            o_entry[i] := CASE v_op WHEN 'capture' THEN p_hold[i] ELSE uuidv7() END;
            v_any_entry := true;
            -- Once per crossing: only the entry that takes the balance below says so.
            IF v_before >= a_low[a] AND v_before + v_delta < a_low[a] THEN
                x_op := x_op || i;
                x_kind := x_kind || 'low_balance'::text;
            END IF;
            IF v_before + v_delta = 0 THEN
                x_op := x_op || i;
                x_kind := x_kind || 'exhausted'::text;
            END IF;
        END IF;
        IF a IS NOT NULL THEN
            o_posted[i] := a_posted[a];
            o_available[i] := a_posted[a] - a_held[a];
        END IF;
        IF v_replay THEN
            o_replayed[i] := true;
        END IF;
        IF v_keys AND v_code IS NULL AND p_key[i] IS NOT NULL THEN
            k := op_key[i];
            IF NOT v_replay THEN
                -- A key whose first hold came to nothing is taken over by the new hold.
                v_any_key := true;
                k_op[k] := i;
                k_digest[k] := p_digest[i];
            ELSIF k_op[k] IS NOT NULL THEN
                o_entry[i] := o_entry[k_op[k]];
                o_posted[i] := o_posted[k_op[k]];
                o_available[i] := o_available[k_op[k]];
            ELSE
                -- The stored outcome; the state of a hold is the one part that moves on.
                o_entry[i] := k_entry[k];
                o_posted[i] := k_posted[k];
                o_available[i] := k_available[k];
            END IF;
        END IF;
    END LOOP;

    -- Write what was decided.
    UPDATE accounts SET posted = new.posted, held = new.held, low_balance = new.low, updated_at = v_now
      FROM unnest(a_id, a_posted, a_held, a_low) AS new (user_id, posted, held, low)
     WHERE accounts.user_id = new.user_id
       AND (accounts.posted, accounts.held, accounts.low_balance) IS DISTINCT FROM (new.posted, new.held, new.low);
    IF v_any_opened THEN
        INSERT INTO holds (hold_id, user_id, amount, state, captured, reason, idempotency_key, request_digest,
                           expires_at, created_at, closed_at)
        SELECT new.hold_id, a_id[new.account], new.amount, new.state, coalesce(new.captured, 0), p_reason[new.closed],
               new.key, new.digest, new.expires, v_now, CASE WHEN new.state <> 'open' THEN v_now END
          FROM unnest(h_id, h_account, h_amount, h_state, h_captured, h_key, h_digest, h_expires, h_opened, h_closed)
               AS new (hold_id, account, amount, state, captured, key, digest, expires, opened, closed)
         WHERE new.opened IS NOT NULL;
    END IF;
    IF v_any_closed OR v_any_changed THEN
        UPDATE holds SET state = new.state, captured = new.captured, reason = p_reason[new.closed],
                         expires_at = new.expires, closed_at = CASE WHEN new.state <> 'open' THEN v_now END
          FROM unnest(h_id, h_state, h_was, h_captured, h_expires, h_closed)
               AS new (hold_id, state, was, captured, expires, closed)
         WHERE holds.hold_id = new.hold_id AND new.was = 'open'
           AND (new.state <> 'open' OR holds.expires_at < new.expires);
    END IF;
    IF v_any_key THEN
        INSERT INTO idempotency (user_id, key, request_digest, hold_id, entry_id, amount, posted_after,
                                 available_after, created_at)
        SELECT p_user[new.no], p_key[new.no], p_digest[new.no], p_hold[new.no], o_entry[new.no], p_amount[new.no],
               o_posted[new.no], o_available[new.no], v_now
          FROM unnest(k_op) AS new (no)
         WHERE new.no IS NOT NULL
            ON CONFLICT (user_id, key) DO UPDATE
           SET request_digest = excluded.request_digest, hold_id = excluded.hold_id, entry_id = excluded.entry_id,
               amount = excluded.amount, posted_after = excluded.posted_after,
               available_after = excluded.available_after, created_at = excluded.created_at;
    END IF;
    IF v_any_entry THEN
        INSERT INTO entries (entry_id, user_id, kind, amount, posted_after, hold_id, reference, actor, reason,
                             created_at)
        SELECT new.entry_id, a_id[coalesce(h_account[new.hold_no], new.account)],
               CASE new.op WHEN 'set_balance' THEN 'adjustment' ELSE new.op END, new.delta, new.posted,
               CASE new.op WHEN 'capture' THEN new.hold_id END, new.reference, new.actor, new.reason, v_now
          FROM unnest(p_op, o_entry, op_account, op_hold[:n], o_delta, o_posted, p_hold, p_entry, p_actor, p_reason)
               WITH ORDINALITY
               AS new (op, entry_id, account, hold_no, delta, posted, hold_id, reference, actor, reason, no)
         WHERE new.delta <> 0
         ORDER BY new.no;
        INSERT INTO outbox (event_id, user_id, kind, posted, available, entry_id, amount, hold_id, threshold, created_at)
        SELECT CASE WHEN event.kind IN ('low_balance', 'exhausted') THEN uuidv7() ELSE o_entry[event.no] END,
               a_id[coalesce(h_account[op_hold[event.no]], op_account[event.no])], event.kind, o_posted[event.no],
               o_available[event.no], o_entry[event.no], o_delta[event.no], p_hold[event.no],
               CASE event.kind WHEN 'low_balance'
                    THEN a_low[coalesce(h_account[op_hold[event.no]], op_account[event.no])] END, v_now
          FROM (SELECT no, CASE p_op[no] WHEN 'capture' THEN 'captured' WHEN 'refund' THEN 'refunded' ELSE 'granted' END
                  FROM unnest(o_delta) WITH ORDINALITY AS entry (delta, no) WHERE delta <> 0
                 UNION ALL SELECT * FROM unnest(x_op, x_kind)) AS event (no, kind)
         ORDER BY event.no, event.kind = 'exhausted', event.kind = 'low_balance';
    END IF;
    IF v_any_closed THEN
        INSERT INTO receipts (hold_id, query_id, user_id, dataset, state, rows, credits_held, credits_used,
                              price_version, price, duration_ms, refund_reason, created_at)
        SELECT hold.hold_id, p_query[hold.closed], a_id[hold.account], p_dataset[hold.closed], hold.state,
               p_rows[hold.closed], hold.amount, coalesce(hold.captured, 0), p_price_version[hold.closed],
               p_price[hold.closed]::json, p_duration[hold.closed], p_refund_reason[hold.closed], v_now
          FROM unnest(h_id, h_account, h_state, h_amount, h_captured, h_closed)
               AS hold (hold_id, account, state, amount, captured, closed)
         WHERE p_query[hold.closed] IS NOT NULL;
        INSERT INTO answers (user_id, idempotency_key, hold_id, status, headers, body, created_at)
        SELECT a_id[hold.account], hold.key, hold.hold_id, p_status[hold.closed], p_headers[hold.closed]::jsonb,
               p_body[hold.closed], v_now
          FROM unnest(h_id, h_account, h_key, h_closed) AS hold (hold_id, account, key, closed)
         WHERE hold.key IS NOT NULL AND p_body[hold.closed] IS NOT NULL
            ON CONFLICT (user_id, idempotency_key) DO UPDATE
           SET hold_id = excluded.hold_id, status = excluded.status, headers = excluded.headers,
               body = excluded.body, created_at = excluded.created_at;
    END IF;

    RETURN QUERY
    SELECT out.code, out.replayed, CASE WHEN out.state IS NOT NULL THEN out.hold_id END, out.entry_id, out.state,
           out.amount, out.posted, out.available, out.needed
      FROM unnest(o_code, o_replayed, o_hold, o_entry, o_state, o_amount, o_posted, o_available, o_needed)
           WITH ORDINALITY
           AS out (code, replayed, hold_id, entry_id, state, amount, posted, available, needed, no)
     ORDER BY out.no;
END $$;

REVOKE ALL ON FUNCTION apply FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apply TO credits;
