-- What runs by the clock. Database time decides, in bounded steps; any number of replicas may run it at once.

-- Close holds past their deadline. Accounts are locked first, in id order, like everywhere; then the holds are read
-- again, since a capture may have been faster.
CREATE FUNCTION expire(p_holds_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = credits, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    v_accounts uuid[];
    v_overdue uuid[];
    v_closed integer;
BEGIN
    SELECT array_agg(hold_id), array_agg(DISTINCT user_id) INTO v_overdue, v_accounts
      FROM (SELECT hold_id, user_id FROM holds
             WHERE state = 'open' AND expires_at <= clock_timestamp() ORDER BY expires_at LIMIT p_holds_max) overdue;
    IF v_overdue IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM accounts WHERE user_id = ANY (v_accounts) ORDER BY user_id FOR UPDATE;
    WITH closed AS (
        UPDATE holds SET state = 'expired', closed_at = clock_timestamp()
         WHERE hold_id = ANY (v_overdue) AND state = 'open' AND expires_at <= clock_timestamp()
     RETURNING user_id, amount),
    returned AS (
        UPDATE accounts SET held = held - total.amount, updated_at = clock_timestamp()
          FROM (SELECT user_id, sum(amount) AS amount FROM closed GROUP BY user_id) total
         WHERE accounts.user_id = total.user_id)
    SELECT count(*) INTO v_closed FROM closed;
    RETURN v_closed;
END $$;

-- Forget what has had its time: keys and answers after 24 hours, receipts and holds that cost nothing later.
CREATE FUNCTION purge(p_receipts_days integer, p_rows_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = credits, pg_temp
AS $$
DECLARE
    v_day CONSTANT timestamptz := clock_timestamp() - interval '24 hours';
    v_old CONSTANT timestamptz := clock_timestamp() - make_interval(days => p_receipts_days);
    v_rows integer;
    v_all integer := 0;
BEGIN
    DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM idempotency WHERE created_at <= v_day LIMIT p_rows_max FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_all := v_all + v_rows;
    DELETE FROM answers WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM answers WHERE created_at <= v_day LIMIT p_rows_max FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_all := v_all + v_rows;
    DELETE FROM receipts WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM receipts WHERE created_at <= v_old LIMIT p_rows_max FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_all := v_all + v_rows;
    DELETE FROM holds WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM holds WHERE state IN ('released', 'expired') AND closed_at <= v_old
         LIMIT p_rows_max FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_all + v_rows;
END $$;

-- The outbox is emptied by one relay at a time (it holds an advisory lock): that keeps every user's events in order.
CREATE FUNCTION outbox_sent(p_seq bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = credits, pg_temp
AS $$ DELETE FROM outbox WHERE seq = ANY (p_seq) $$;

REVOKE ALL ON FUNCTION expire, purge, outbox_sent FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expire, purge, outbox_sent TO credits;
