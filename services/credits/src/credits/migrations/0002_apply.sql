-- Group commit: many operations of many accounts in one transaction, one outcome each, in arrival order.
--
-- Two phases, and each needs its own snapshot (READ COMMITTED gives every statement a fresh one):
--   1. lock the touched accounts in id order, like everybody who locks accounts: no deadlock;
--   2. only then look for replays and balances. One statement for both would look with the snapshot from before the
--      wait, meet the same key from another replica as a unique violation and lose the whole batch.
-- Decisions are taken one after the other (available 10; 8, 5, 2: yes, no, yes), which window sums cannot do.
-- Nothing is written before every operation is decided.
--
-- State is kept in arrays, by number of account (a_), key (k_), hold (h_) and captured entry (e_). What an operation
-- writes (w_) and answers (o_) is kept by number of operation.

CREATE FUNCTION apply(
    p_op text[], p_user uuid[], p_hold uuid[], p_entry uuid[], p_amount bigint[], p_ttl integer[],
    p_key text[], p_digest bytea[], p_actor text[], p_reason text[],
    p_receipt text[], p_status integer[], p_headers text[], p_body bytea[]
) RETURNS TABLE (
    code text, replayed boolean, hold_id uuid, entry_id uuid, state text,
    amount_mc bigint, posted_mc bigint, available_mc bigint, needed_mc bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = credits, pg_temp
-- The plan must not depend on how empty the tables were when a connection ran it first.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    c_most CONSTANT bigint := 1000000000000000;
    n CONSTANT integer := cardinality(p_op);
    v_now timestamptz;
    a integer; k integer; h integer; e integer;
    v_op text; v_code text; v_kind text; v_name text; v_delta bigint; v_before bigint; v_replay boolean;
    a_id uuid[]; a_new uuid[]; a_posted bigint[]; a_held bigint[]; a_low bigint[];
    k_name text[] := '{}'; k_digest bytea[]; k_hold uuid[]; k_entry uuid[];
    k_amount bigint[]; k_posted bigint[]; k_available bigint[];
    h_id uuid[] := '{}'; h_account integer[]; h_amount bigint[]; h_state text[]; h_captured bigint[]; h_reason text[];
    h_key text[]; h_digest bytea[]; h_expires timestamptz[]; h_opened timestamptz[]; h_closed timestamptz[];
    h_existing integer; h_changed boolean[]; h_any_changed boolean := false;
    e_id uuid[]; e_account integer[]; e_left bigint[];
    -- Full length from the start: an array whose first assignment is to place 3 would begin at 3.
    c_bigints CONSTANT bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    c_uuids CONSTANT uuid[] := array_fill(NULL::uuid, ARRAY[n]);
    c_texts CONSTANT text[] := array_fill(NULL::text, ARRAY[n]);
    c_integers CONSTANT integer[] := array_fill(NULL::integer, ARRAY[n]);
    c_booleans CONSTANT boolean[] := array_fill(false, ARRAY[n]);
    o_code text[] := c_texts; o_state text[] := c_texts; o_replayed boolean[] := c_booleans;
    o_hold uuid[] := c_uuids; o_entry uuid[] := c_uuids;
    o_amount bigint[] := c_bigints; o_posted bigint[] := c_bigints; o_available bigint[] := c_bigints;
    o_needed bigint[] := c_bigints;
    w_kind text[] := c_texts; w_entry uuid[] := c_uuids; w_account integer[] := c_integers;
    w_amount bigint[] := c_bigints; w_posted bigint[] := c_bigints; w_available bigint[] := c_bigints;
    w_key boolean[] := c_booleans; w_settled integer[] := c_integers;
    w_any_entry boolean := false; w_any_key boolean := false; w_any_settled boolean := false;
    x_user uuid[]; x_kind text[]; x_payload jsonb[]; x integer := 0;  -- events besides those of the entries
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
    -- A key is remembered for 24 hours, however late the purge comes by.
    SELECT coalesce(array_agg(known.user_id || known.key), '{}'), array_agg(known.request_digest),
           array_agg(known.hold_id), array_agg(known.entry_id),
           array_agg(known.amount), array_agg(known.posted_after), array_agg(known.available_after)
      INTO k_name, k_digest, k_hold, k_entry, k_amount, k_posted, k_available
      FROM (SELECT DISTINCT wanted.user_id, wanted.key FROM unnest(p_user, p_key) AS wanted (user_id, key)
             WHERE wanted.key IS NOT NULL) asked
      JOIN idempotency known ON known.user_id = asked.user_id AND known.key = asked.key
     WHERE known.created_at > v_now - interval '24 hours';
    SELECT coalesce(array_agg(hold_id), '{}'), array_agg(array_position(a_id, user_id)), array_agg(amount),
           array_agg(state), array_agg(captured), array_agg(reason), array_agg(idempotency_key),
           array_agg(request_digest), array_agg(expires_at), array_agg(created_at), array_agg(closed_at)
      INTO h_id, h_account, h_amount, h_state, h_captured, h_reason, h_key, h_digest, h_expires, h_opened, h_closed
      FROM holds WHERE hold_id = ANY (p_hold || k_hold);
    h_existing := cardinality(h_id);
    h_changed := array_fill(false, ARRAY[h_existing]);
    FOR i IN 1..h_existing LOOP
        IF h_state[i] = 'open' AND h_expires[i] <= v_now AND h_account[i] IS NOT NULL THEN
            h_state[i] := 'expired';
            h_closed[i] := v_now;
            h_changed[i] := true;
            h_any_changed := true;
            a_held[h_account[i]] := a_held[h_account[i]] - h_amount[i];
        END IF;
    END LOOP;

    -- Decide, in arrival order.
    FOR i IN 1..n LOOP
        v_op := p_op[i];
        v_code := NULL;
        v_replay := false;
        IF v_op = 'capture' OR v_op = 'release' OR v_op = 'extend' THEN
            h := array_position(h_id, p_hold[i]);
            a := h_account[h];
            IF a IS NULL OR p_user[i] <> a_id[a] THEN
                v_code := 'unknown_hold';
            ELSIF h_state[h] <> 'open' THEN
                v_replay := CASE v_op WHEN 'capture' THEN h_state[h] = 'captured' AND h_captured[h] = p_amount[i]
                                      WHEN 'release' THEN h_state[h] = 'released' ELSE false END;
                IF NOT v_replay THEN
                    v_code := 'hold_closed';
                END IF;
            ELSIF v_op = 'extend' THEN
                h_expires[h] := greatest(h_expires[h], v_now + make_interval(secs => p_ttl[i]));
                h_changed[h] := true;
                h_any_changed := true;
            ELSIF p_amount[i] > h_amount[h] THEN
                v_code := 'capture_exceeds_hold';
            ELSE
                h_state[h] := CASE v_op WHEN 'capture' THEN 'captured' ELSE 'released' END;
                h_closed[h] := v_now;
                h_reason[h] := p_reason[i];
                h_changed[h] := true;
                h_any_changed := true;
                a_held[a] := a_held[a] - h_amount[h];
                w_settled[i] := h;
                w_any_settled := true;
                IF p_amount[i] > 0 THEN
                    h_captured[h] := p_amount[i];
                    v_kind := 'capture';
                    v_delta := -p_amount[i];
                END IF;
            END IF;
            IF a IS NOT NULL AND v_code IS DISTINCT FROM 'unknown_hold' THEN
                o_hold[i] := p_hold[i];
                o_state[i] := h_state[h];
                o_amount[i] := CASE WHEN h_state[h] = 'captured' THEN h_captured[h] ELSE h_amount[h] END;
            END IF;

        ELSIF v_op = 'reserve' THEN
            a := array_position(a_id, p_user[i]);
            h := array_position(h_id, p_hold[i]);
            v_name := p_user[i] || p_key[i];
            k := CASE WHEN v_name IS NULL THEN NULL ELSE array_position(k_name, v_name) END;
            IF a IS NULL THEN
                v_code := 'unknown_user';
            ELSIF h IS NOT NULL THEN
                -- This very hold is there already: the caller asks again because it did not hear the answer.
                v_replay := h_account[h] = a AND h_digest[h] = p_digest[i] AND h_key[h] IS NOT DISTINCT FROM p_key[i];
            ELSIF k IS NOT NULL AND k_digest[k] <> p_digest[i] THEN
                v_code := 'idempotency_mismatch';
            ELSIF k IS NOT NULL THEN
                -- What was released or has expired cost nothing, so the key may try again with a new hold.
                h := array_position(h_id, k_hold[k]);
                v_replay := h_state[h] IN ('open', 'captured');
            END IF;
            IF v_code IS NOT NULL THEN
                NULL;
            ELSIF v_replay THEN
                o_hold[i] := h_id[h];
                o_state[i] := h_state[h];
                o_amount[i] := CASE WHEN h_state[h] = 'captured' THEN h_captured[h] ELSE h_amount[h] END;
            ELSIF h_id[h] = p_hold[i] THEN
                v_code := 'idempotency_mismatch';
            ELSIF a_posted[a] - a_held[a] < p_amount[i] THEN
                v_code := 'insufficient_credits';
                o_needed[i] := p_amount[i];
            ELSE
                a_held[a] := a_held[a] + p_amount[i];
                h := cardinality(h_id) + 1;
                h_id[h] := p_hold[i];
                h_account[h] := a;
                h_amount[h] := p_amount[i];
                h_state[h] := 'open';
                h_captured[h] := 0;
                h_reason[h] := NULL;
                h_key[h] := p_key[i];
                h_digest[h] := p_digest[i];
                h_expires[h] := v_now + make_interval(secs => p_ttl[i]);
                h_opened[h] := v_now;
                h_closed[h] := NULL;
                h_changed[h] := false;
                w_key[i] := v_name IS NOT NULL;
                o_hold[i] := p_hold[i];
                o_state[i] := 'open';
                o_amount[i] := p_amount[i];
            END IF;

        ELSIF v_op = 'open_account' THEN
            a := array_position(a_id, p_user[i]);
            v_replay := a_new IS NULL OR array_position(a_new, p_user[i]) IS NULL;
            a_low[a] := p_amount[i];

        ELSE  -- grant, set_balance, refund
            a := array_position(a_id, p_user[i]);
            v_name := p_user[i] || p_key[i];
            k := array_position(k_name, v_name);
            IF a IS NULL THEN
                v_code := CASE v_op WHEN 'refund' THEN 'unknown_entry' ELSE 'unknown_user' END;
            ELSIF k IS NOT NULL THEN
                IF k_digest[k] = p_digest[i] THEN
                    v_replay := true;
                ELSE
                    v_code := 'idempotency_mismatch';
                END IF;
            ELSE
                v_delta := CASE v_op WHEN 'set_balance' THEN p_amount[i] - a_posted[a] ELSE p_amount[i] END;
                IF v_op = 'refund' THEN
                    e := array_position(e_id, p_entry[i]);
                    IF e_left[e] < p_amount[i] THEN
                        v_code := 'refund_exceeds_capture';
                    ELSE
                        e_left[e] := e_left[e] - p_amount[i];
                    END IF;
                END IF;
                IF v_code IS NULL AND a_posted[a] + v_delta NOT BETWEEN a_held[a] AND c_most THEN
                    v_code := 'amount_out_of_range';
                ELSIF v_code IS NULL THEN
                    w_key[i] := true;
                    v_kind := CASE v_op WHEN 'set_balance' THEN 'adjustment' ELSE v_op END;
                END IF;
            END IF;
        END IF;

        IF v_kind IS NOT NULL AND v_delta <> 0 THEN
            v_before := a_posted[a];
            a_posted[a] := v_before + v_delta;
            w_any_entry := true;
            w_kind[i] := v_kind;
            w_entry[i] := uuidv7();
            w_account[i] := a;
            w_amount[i] := v_delta;
            w_posted[i] := a_posted[a];
            w_available[i] := a_posted[a] - a_held[a];
            o_entry[i] := w_entry[i];
            -- Once per crossing: only the entry that takes the balance below says so.
            IF v_before >= a_low[a] AND a_posted[a] < a_low[a] THEN
                x := x + 1;
                x_user[x] := a_id[a];
                x_kind[x] := 'low_balance';
                x_payload[x] := jsonb_build_object('posted_mc', a_posted[a], 'available_mc', a_posted[a] - a_held[a],
                                                   'threshold_mc', a_low[a]);
            END IF;
            IF v_before > 0 AND a_posted[a] = 0 THEN
                x := x + 1;
                x_user[x] := a_id[a];
                x_kind[x] := 'exhausted';
                x_payload[x] := '{}';
            END IF;
        END IF;
        v_kind := NULL;
        o_code[i] := v_code;
        o_replayed[i] := coalesce(v_replay, false);
        IF a IS NOT NULL AND v_code IS DISTINCT FROM 'unknown_hold' THEN
            o_posted[i] := a_posted[a];
            o_available[i] := a_posted[a] - a_held[a];
        END IF;
        IF w_key[i] THEN
            w_any_key := true;
            o_amount[i] := p_amount[i];
            -- A key whose first hold came to nothing is taken over by the new hold.
            k := coalesce(array_position(k_name, v_name), cardinality(k_name) + 1);
            k_name[k] := v_name;
            k_digest[k] := p_digest[i];
            k_hold[k] := p_hold[i];
            k_entry[k] := w_entry[i];
            k_amount[k] := p_amount[i];
            k_posted[k] := o_posted[i];
            k_available[k] := o_available[i];
        ELSIF v_replay AND k IS NOT NULL AND v_op IN ('reserve', 'grant', 'set_balance', 'refund') THEN
            -- The stored outcome; a hold's state is the one part that has moved on.
            o_entry[i] := k_entry[k];
            o_amount[i] := coalesce(o_amount[i], k_amount[k]);
            o_posted[i] := k_posted[k];
            o_available[i] := k_available[k];
        END IF;
    END LOOP;

    -- Write what was decided.
    UPDATE accounts SET posted = new.posted, held = new.held, low_balance = new.low, updated_at = v_now
      FROM unnest(a_id, a_posted, a_held, a_low) AS new (user_id, posted, held, low)
     WHERE accounts.user_id = new.user_id
       AND (accounts.posted, accounts.held, accounts.low_balance) IS DISTINCT FROM (new.posted, new.held, new.low);
    IF cardinality(h_id) > h_existing THEN
        INSERT INTO holds (hold_id, user_id, amount, state, captured, reason, idempotency_key, request_digest,
                           expires_at, created_at, closed_at)
        SELECT new.hold_id, a_id[new.account], new.amount, new.state, new.captured, new.reason, new.key, new.digest,
               new.expires, new.opened, new.closed
          FROM unnest(h_id, h_account, h_amount, h_state, h_captured, h_reason, h_key, h_digest, h_expires, h_opened,
                      h_closed) WITH ORDINALITY
               AS new (hold_id, account, amount, state, captured, reason, key, digest, expires, opened, closed, no)
         WHERE new.no > h_existing;
    END IF;
    IF h_any_changed THEN
        UPDATE holds SET state = new.state, captured = new.captured, reason = new.reason, expires_at = new.expires,
                         closed_at = new.closed
          FROM unnest(h_id, h_state, h_captured, h_reason, h_expires, h_closed, h_changed) WITH ORDINALITY
               AS new (hold_id, state, captured, reason, expires, closed, changed, no)
         WHERE holds.hold_id = new.hold_id AND new.changed AND new.no <= h_existing;
    END IF;
    IF w_any_key THEN
        INSERT INTO idempotency AS known (user_id, key, request_digest, hold_id, entry_id, amount, posted_after,
                                          available_after, created_at)
        SELECT DISTINCT ON (new.user_id, new.key) new.user_id, new.key, new.digest, new.hold_id, new.entry_id,
               new.amount, new.posted, new.available, v_now
          FROM unnest(w_key, p_user, p_key, p_digest, p_hold, w_entry, p_amount, o_posted, o_available) WITH ORDINALITY
               AS new (written, user_id, key, digest, hold_id, entry_id, amount, posted, available, no)
         WHERE new.written
         ORDER BY new.user_id, new.key, new.no DESC
            ON CONFLICT (user_id, key) DO UPDATE
           SET request_digest = excluded.request_digest, hold_id = excluded.hold_id, entry_id = excluded.entry_id,
               amount = excluded.amount, posted_after = excluded.posted_after,
               available_after = excluded.available_after, created_at = excluded.created_at;
    END IF;
    IF w_any_entry THEN
        INSERT INTO entries (entry_id, user_id, kind, amount, posted_after, hold_id, reference, actor, reason,
                             created_at)
        SELECT new.entry_id, a_id[new.account], new.kind, new.amount, new.posted,
               CASE new.kind WHEN 'capture' THEN new.hold_id END, CASE new.kind WHEN 'refund' THEN new.reference END,
               new.actor, new.reason, v_now
          FROM unnest(w_entry, w_account, w_kind, w_amount, w_posted, p_hold, p_entry, p_actor, p_reason)
               WITH ORDINALITY
               AS new (entry_id, account, kind, amount, posted, hold_id, reference, actor, reason, no)
         WHERE new.entry_id IS NOT NULL
         ORDER BY new.no;
        INSERT INTO outbox (event_id, user_id, kind, payload, created_at)
        SELECT uuidv7(), a_id[new.account],
               CASE new.kind WHEN 'capture' THEN 'captured' WHEN 'refund' THEN 'refunded' ELSE 'granted' END,
               jsonb_build_object('entry_id', new.entry_id, 'amount_mc', new.amount, 'posted_mc', new.posted,
                                  'available_mc', new.available, 'hold_id', new.hold_id),
               v_now
          FROM unnest(w_entry, w_account, w_kind, w_amount, w_posted, w_available, p_hold) WITH ORDINALITY
               AS new (entry_id, account, kind, amount, posted, available, hold_id, no)
         WHERE new.entry_id IS NOT NULL
         ORDER BY new.no;
    END IF;
    IF x > 0 THEN
        INSERT INTO outbox (event_id, user_id, kind, payload, created_at)
        SELECT uuidv7(), new.user_id, new.kind, new.payload, v_now
          FROM unnest(x_user, x_kind, x_payload) WITH ORDINALITY AS new (user_id, kind, payload, no)
         ORDER BY new.no;
    END IF;
    IF w_any_settled THEN
        INSERT INTO receipts (hold_id, query_id, user_id, dataset, state, rows, credits_held, credits_used,
                              price_version, price, duration_ms, refund_reason, created_at)
        SELECT h_id[new.h], query_id, a_id[h_account[new.h]], dataset, h_state[new.h], rows, h_amount[new.h],
               h_captured[new.h], price_version, coalesce(price, '{}'), duration_ms, refund_reason, v_now
          FROM unnest(w_settled, p_receipt) AS new (h, receipt),
               jsonb_to_record(new.receipt::jsonb)
               AS given (query_id uuid, dataset text, rows bigint, price_version text, price jsonb,
                         duration_ms double precision, refund_reason text)
         WHERE new.h IS NOT NULL AND new.receipt IS NOT NULL;
        INSERT INTO answers (user_id, idempotency_key, hold_id, status, headers, body, created_at)
        SELECT a_id[h_account[new.h]], h_key[new.h], h_id[new.h], new.status, new.headers::jsonb, new.body, v_now
          FROM unnest(w_settled, p_status, p_headers, p_body) AS new (h, status, headers, body)
         WHERE new.h IS NOT NULL AND new.body IS NOT NULL AND h_key[new.h] IS NOT NULL
            ON CONFLICT (user_id, idempotency_key) DO UPDATE
           SET hold_id = excluded.hold_id, status = excluded.status, headers = excluded.headers,
               body = excluded.body, created_at = excluded.created_at;
    END IF;

    RETURN QUERY
    SELECT out.code, out.replayed, out.hold_id, out.entry_id, out.state, out.amount, out.posted, out.available,
           out.needed
      FROM unnest(p_op, o_code, o_replayed, o_hold, o_entry, o_state, o_amount, o_posted, o_available, o_needed)
           WITH ORDINALITY
           AS out (op, code, replayed, hold_id, entry_id, state, amount, posted, available, needed, no)
     ORDER BY out.no;
END $$;

REVOKE ALL ON FUNCTION apply FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apply TO credits;
