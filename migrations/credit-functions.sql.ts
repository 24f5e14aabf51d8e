/**
 * How credits move. Each movement is one call, in a transaction of the tenant and as its role: it locks the account's
 * row, so that movements of a tenant take turns, and leaves these true:
 *
 * - the sum of all `delta` is the balance, and `sequence` has no gap;
 * - `held` is the sum of the estimates of open reservations;
 * - the sum of what remains of the grants is the balance, or 0 where the tenant is in debt.
 *
 * 9007199254740991 is the largest whole number that JSON readers hold exactly: no sum here goes past it.
 */
export const creditFunctions = [
  `
  -- RFC 9562, version 7: 48 bits of milliseconds, the rest random.
  CREATE FUNCTION credit_entry_id() RETURNS uuid
  LANGUAGE sql VOLATILE SET search_path = public AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
      PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
      52, 1), 53, 1), 'hex')::uuid
  $$`,
  `
  CREATE FUNCTION lock_credit_account() RETURNS credit_accounts
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    account credit_accounts;
  BEGIN
    SELECT * INTO account FROM credit_accounts a WHERE a.tenant_id = tenant FOR UPDATE;
    IF NOT FOUND THEN
      INSERT INTO credit_accounts (tenant_id) VALUES (tenant) ON CONFLICT DO NOTHING;
      SELECT * INTO STRICT account FROM credit_accounts a WHERE a.tenant_id = tenant FOR UPDATE;
    END IF;
    RETURN account;
  END $$`,
  `
  -- about: reservation_id, grant_id, operation, lines, idempotency_key, token_id, user_id, note. Returns the balance after.
  CREATE FUNCTION append_credit_entry(tenant uuid, kind text, change bigint, amount bigint, held_change bigint, about jsonb)
  RETURNS bigint LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    account credit_accounts;
  BEGIN
    UPDATE credit_accounts a SET balance = a.balance + change, held = a.held + held_change, sequence = a.sequence + 1
    WHERE a.tenant_id = tenant RETURNING * INTO STRICT account;
    INSERT INTO credit_ledger (tenant_id, sequence, id, type, delta, amount, balance_after, reservation_id, grant_id,
                               operation, lines, idempotency_key, token_id, user_id, note, created_at)
    VALUES (tenant, account.sequence, credit_entry_id(), kind, change, append_credit_entry.amount, account.balance,
            (about->>'reservation_id')::uuid, (about->>'grant_id')::uuid, about->>'operation',
            coalesce(nullif(about->'lines', 'null'), '[]'), about->>'idempotency_key', (about->>'token_id')::uuid,
            (about->>'user_id')::uuid, about->>'note', clock_timestamp());
    RETURN account.balance;
  END $$`,
  `
  -- Takes from the grants that expire first. Returns which gave how much, in that order.
  CREATE FUNCTION draw_credits(tenant uuid, wanted bigint) RETURNS jsonb
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    missing bigint := wanted;
    portion bigint;
    source credit_grants;
    drawn jsonb := '[]';
  BEGIN
    FOR source IN SELECT * FROM credit_grants g WHERE g.tenant_id = tenant AND g.remaining > 0
                  ORDER BY g.expires_at NULLS LAST, g.sequence LOOP
      EXIT WHEN missing <= 0;
      portion := least(source.remaining, missing);
      UPDATE credit_grants SET remaining = remaining - portion WHERE tenant_id = tenant AND id = source.id;
      drawn := drawn || jsonb_build_object('grant_id', source.id, 'amount', portion);
      missing := missing - portion;
    END LOOP;
    RETURN drawn;
  END $$`,
  `
  -- Gives back to the grants it came from, what was drawn last first; what they have no room for, because it has paid a
  -- debt meanwhile, to those that expire last.
  CREATE FUNCTION return_credits(tenant uuid, amount bigint, drawn jsonb) RETURNS void
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    missing bigint := amount;
    portion bigint;
    target record;
  BEGIN
    FOR target IN
      SELECT g.id, least(g.amount - g.remaining - g.expired, (d.draw->>'amount')::bigint) AS room
      FROM jsonb_array_elements(drawn) WITH ORDINALITY AS d (draw, position)
      JOIN credit_grants g ON g.tenant_id = tenant AND g.id = (d.draw->>'grant_id')::uuid
      ORDER BY d.position DESC
    LOOP
      EXIT WHEN missing <= 0;
      portion := least(target.room, missing);
      UPDATE credit_grants SET remaining = remaining + portion WHERE tenant_id = tenant AND id = target.id;
      missing := missing - portion;
    END LOOP;
    IF missing <= 0 THEN RETURN; END IF;
    FOR target IN
      SELECT g.id, g.amount - g.remaining - g.expired AS room FROM credit_grants g
      WHERE g.tenant_id = tenant AND g.amount > g.remaining + g.expired
      ORDER BY g.expires_at DESC NULLS FIRST, g.sequence DESC
    LOOP
      EXIT WHEN missing <= 0;
      portion := least(target.room, missing);
      UPDATE credit_grants SET remaining = remaining + portion WHERE tenant_id = tenant AND id = target.id;
      missing := missing - portion;
    END LOOP;
    IF missing > 0 THEN
      RAISE EXCEPTION 'The grants of tenant % have no room for % credits that came from them.', tenant, missing
        USING ERRCODE = 'data_corrupted';
    END IF;
  END $$`,
  `
  -- Whoever holds the account's lock calls this before reading the balance. Returns how many grants have expired.
  CREATE FUNCTION expire_grants(tenant uuid, most integer) RETURNS integer
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    due credit_grants;
    count integer := 0;
  BEGIN
    FOR due IN SELECT * FROM credit_grants g WHERE g.tenant_id = tenant AND g.remaining > 0 AND g.expires_at <= now()
               ORDER BY g.expires_at, g.sequence LIMIT most LOOP
      UPDATE credit_grants SET remaining = 0, expired = expired + due.remaining WHERE tenant_id = tenant AND id = due.id;
      -- What comes back from a reservation expires once more.
      PERFORM append_credit_entry(tenant, 'expire', -due.remaining, due.remaining, 0, jsonb_build_object(
        'grant_id', due.id, 'idempotency_key', format('expire:%s:%s', due.id, due.expired)));
      count := count + 1;
    END LOOP;
    RETURN count;
  END $$`,
  `
  -- Says once when the account has become low, or exhausted. What is held may come back, and counts as there.
  CREATE FUNCTION watch_credits(tenant uuid, refused boolean) RETURNS jsonb
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    account credit_accounts;
    low boolean;
    exhausted boolean;
  BEGIN
    SELECT * INTO STRICT account FROM credit_accounts a WHERE a.tenant_id = tenant;
    low := coalesce(account.balance + account.held < coalesce(account.low_threshold, account.last_grant / 10), false);
    exhausted := account.balance + account.held <= 0 OR (low AND (account.is_exhausted OR refused));
    IF low <> account.is_low OR exhausted <> account.is_exhausted THEN
      UPDATE credit_accounts SET is_low = low, is_exhausted = exhausted WHERE tenant_id = tenant;
    END IF;
    RETURN jsonb_build_object(
      'balance', account.balance, 'held', account.held,
      'low_threshold', coalesce(account.low_threshold, account.last_grant / 10),
      'low', low AND NOT account.is_low, 'exhausted', exhausted AND NOT account.is_exhausted);
  END $$`,
  `
  -- Sets aside what an operation may cost at most.
  CREATE FUNCTION reserve_credits(reservation uuid, estimate bigint, about jsonb, seconds integer, enforced boolean)
  RETURNS jsonb
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    most constant bigint := 9007199254740991;
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    token uuid := (about->>'token_id')::uuid;
    this_month date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    account credit_accounts;
    earlier credit_ledger;
    budget bigint;
    used bigint;
    drawn jsonb;
  BEGIN
    account := lock_credit_account();
    SELECT * INTO earlier FROM credit_ledger l
    WHERE l.tenant_id = tenant AND l.idempotency_key = about->>'idempotency_key';
    IF FOUND THEN
      RETURN jsonb_build_object('reservation_id', earlier.reservation_id, 'outcome', CASE
        WHEN earlier.type = 'reserve' AND earlier.amount = estimate AND earlier.operation = about->>'operation'
        THEN 'replayed' ELSE 'key_reused' END);
    END IF;
    IF expire_grants(tenant, NULL) > 0 THEN account := lock_credit_account(); END IF;
    SELECT t.monthly_credit_budget INTO budget FROM api_tokens t WHERE t.tenant_id = tenant AND t.id = token;
    IF budget IS NOT NULL THEN
      SELECT coalesce(sum(m.spent + m.held), 0) INTO used FROM credit_months m
      WHERE m.tenant_id = tenant AND m.month = this_month AND m.token_id = token;
      IF estimate > budget - used THEN
        RETURN watch_credits(tenant, false) || jsonb_build_object('outcome', 'budget', 'required', estimate,
          'available', greatest(budget - used, 0), 'missing', estimate - greatest(budget - used, 0));
      END IF;
    END IF;
    IF enforced AND account.balance < estimate THEN
      RETURN watch_credits(tenant, true) || jsonb_build_object('outcome', 'insufficient', 'required', estimate,
        'available', account.balance, 'missing', estimate - account.balance);
    END IF;
    -- A debt and what was granted stay countable together.
    IF estimate - account.balance > most - account.granted THEN
      RETURN jsonb_build_object('outcome', 'overflow');
    END IF;
    drawn := draw_credits(tenant, least(estimate, greatest(account.balance, 0)));
    INSERT INTO credit_reservations (id, tenant_id, operation, estimate, prices, draws, month, token_id, budget, user_id,
                                     expires_at)
    VALUES (reservation, tenant, about->>'operation', reserve_credits.estimate, about->'lines', drawn, this_month, token,
            budget, (about->>'user_id')::uuid, now() + make_interval(secs => seconds));
    INSERT INTO credit_months AS known (tenant_id, month, token_id, held)
    VALUES (tenant, this_month, coalesce(token, nobody), reserve_credits.estimate)
    ON CONFLICT (tenant_id, month, token_id) DO UPDATE SET held = known.held + excluded.held;
    PERFORM append_credit_entry(tenant, 'reserve', -estimate, estimate, estimate,
      about || jsonb_build_object('reservation_id', reservation));
    RETURN watch_credits(tenant, false) || jsonb_build_object('outcome', 'reserved', 'reservation_id', reservation);
  END $$`,
  `
  -- Ends a reservation without a commit. The caller holds the account's lock.
  CREATE FUNCTION close_reservation(held_for credit_reservations, new_status text, note text) RETURNS void
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    after bigint;
  BEGIN
    UPDATE credit_reservations SET status = new_status, closed_at = clock_timestamp()
    WHERE tenant_id = held_for.tenant_id AND id = held_for.id;
    UPDATE credit_months SET held = held - held_for.estimate
    WHERE tenant_id = held_for.tenant_id AND month = held_for.month AND token_id = coalesce(held_for.token_id, nobody);
    after := append_credit_entry(held_for.tenant_id, 'release', held_for.estimate, held_for.estimate, -held_for.estimate,
      jsonb_build_object('reservation_id', held_for.id, 'operation', held_for.operation, 'lines', held_for.prices, 'token_id',
        held_for.token_id, 'user_id', held_for.user_id, 'note', note, 'idempotency_key', 'release:' || held_for.id));
    PERFORM return_credits(held_for.tenant_id, greatest(after, 0) - greatest(after - held_for.estimate, 0), held_for.draws);
    PERFORM expire_grants(held_for.tenant_id, NULL);
  END $$`,
  `
  -- Takes what the operation cost, and gives back the rest of the reservation. What goes past the estimate is taken as far
  -- as the balance allows (where it is enforced) and the token's budget.
  CREATE FUNCTION commit_credits(reservation uuid, cost bigint, used_lines jsonb, enforced boolean) RETURNS jsonb
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    most constant bigint := 9007199254740991;
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    account credit_accounts;
    held_for credit_reservations;
    tenant uuid;
    over bigint;
    rest bigint;
    taken bigint;
    used bigint;
    drawn jsonb;
    about jsonb;
    after bigint;
  BEGIN
    account := lock_credit_account();
    tenant := account.tenant_id;
    SELECT * INTO held_for FROM credit_reservations r WHERE r.tenant_id = tenant AND r.id = reservation FOR UPDATE;
    IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'unknown'); END IF;
    IF held_for.status <> 'open' THEN
      RETURN jsonb_build_object('charged', coalesce(held_for.charged, 0),
        'shortfall', coalesce(held_for.cost - held_for.charged, 0),
        'outcome', CASE WHEN held_for.status = 'committed' AND held_for.cost <> commit_credits.cost THEN 'key_reused'
                        WHEN held_for.status = 'committed' THEN 'replayed' ELSE held_for.status END);
    END IF;
    drawn := held_for.draws;
    over := greatest(commit_credits.cost - held_for.estimate, 0);
    IF over > 0 THEN
      IF expire_grants(tenant, NULL) > 0 THEN account := lock_credit_account(); END IF;
      IF enforced THEN over := least(over, greatest(account.balance, 0)); END IF;
      IF held_for.budget IS NOT NULL THEN
        SELECT coalesce(sum(m.spent + m.held), 0) INTO used FROM credit_months m
        WHERE m.tenant_id = tenant AND m.month = held_for.month AND m.token_id = held_for.token_id;
        over := least(over, greatest(held_for.budget - used, 0));
      END IF;
      over := least(over, greatest(most - account.granted + account.balance, 0));
      drawn := drawn || draw_credits(tenant, least(over, greatest(account.balance, 0)));
    END IF;
    taken := least(commit_credits.cost, held_for.estimate) + over;
    rest := held_for.estimate - least(commit_credits.cost, held_for.estimate);
    UPDATE credit_reservations r SET status = 'committed', cost = commit_credits.cost, charged = taken,
      closed_at = clock_timestamp() WHERE r.tenant_id = tenant AND r.id = reservation;
    UPDATE credit_months m SET held = m.held - held_for.estimate, spent = m.spent + taken
    WHERE m.tenant_id = tenant AND m.month = held_for.month AND m.token_id = coalesce(held_for.token_id, nobody);
    about := jsonb_build_object('reservation_id', reservation, 'operation', held_for.operation, 'lines', used_lines,
      'token_id', held_for.token_id, 'user_id', held_for.user_id);
    after := append_credit_entry(tenant, 'commit', -over, taken, -held_for.estimate, about || jsonb_build_object(
      'idempotency_key', 'commit:' || reservation, 'note', CASE WHEN taken < commit_credits.cost
        THEN format('%s of %s could not be taken', commit_credits.cost - taken, commit_credits.cost) END));
    IF rest > 0 THEN
      after := append_credit_entry(tenant, 'release', rest, rest, 0,
        about || jsonb_build_object('idempotency_key', 'release:' || reservation, 'lines', NULL));
      PERFORM return_credits(tenant, greatest(after, 0) - greatest(after - rest, 0), drawn);
    END IF;
    PERFORM expire_grants(tenant, NULL);
    RETURN watch_credits(tenant, false) || jsonb_build_object('outcome', 'committed', 'charged', taken,
      'shortfall', commit_credits.cost - taken);
  END $$`,
  `
  CREATE FUNCTION release_credits(reservation uuid, note text) RETURNS jsonb
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    account credit_accounts;
    held_for credit_reservations;
  BEGIN
    account := lock_credit_account();
    SELECT * INTO held_for FROM credit_reservations r
    WHERE r.tenant_id = account.tenant_id AND r.id = reservation FOR UPDATE;
    IF NOT FOUND THEN RETURN jsonb_build_object('outcome', 'unknown'); END IF;
    IF held_for.status <> 'open' THEN RETURN jsonb_build_object('outcome', held_for.status); END IF;
    PERFORM close_reservation(held_for, 'released', release_credits.note);
    RETURN watch_credits(account.tenant_id, false) || jsonb_build_object('outcome', 'released');
  END $$`,
  `
  -- Gives back what whoever reserved it has left behind, and takes what has expired: at most as many of each.
  CREATE FUNCTION sweep_credits(most integer) RETURNS jsonb
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    account credit_accounts;
    due credit_reservations;
    released integer := 0;
    expired integer;
  BEGIN
    account := lock_credit_account();
    FOR due IN SELECT * FROM credit_reservations r
               WHERE r.tenant_id = account.tenant_id AND r.status = 'open' AND r.expires_at <= now()
               ORDER BY r.expires_at, r.id LIMIT most FOR UPDATE LOOP
      PERFORM close_reservation(due, 'expired', 'nobody has come back for it');
      released := released + 1;
    END LOOP;
    expired := expire_grants(account.tenant_id, most);
    RETURN watch_credits(account.tenant_id, false) || jsonb_build_object('released', released, 'expired', expired);
  END $$`,
  `
  -- Grants, or adjusts by any amount but 0. What is added pays a debt first.
  CREATE FUNCTION add_credits(kind text, amount bigint, expires timestamptz, about jsonb, enforced boolean) RETURNS jsonb
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    most constant bigint := 9007199254740991;
    account credit_accounts;
    tenant uuid;
    earlier credit_ledger;
    added uuid := CASE WHEN amount > 0 THEN credit_entry_id() END;
    after bigint;
  BEGIN
    account := lock_credit_account();
    tenant := account.tenant_id;
    SELECT * INTO earlier FROM credit_ledger l
    WHERE l.tenant_id = tenant AND l.idempotency_key = about->>'idempotency_key';
    IF FOUND THEN
      RETURN jsonb_build_object('sequence', earlier.sequence, 'outcome', CASE
        WHEN earlier.type = kind AND earlier.delta = add_credits.amount AND earlier.note IS NOT DISTINCT FROM about->>'note'
          AND expires IS NOT DISTINCT FROM (SELECT g.expires_at FROM credit_grants g
                                            WHERE g.tenant_id = tenant AND g.id = earlier.grant_id)
        THEN 'replayed' ELSE 'key_reused' END);
    END IF;
    IF expires <= now() THEN RETURN jsonb_build_object('outcome', 'expired'); END IF;
    IF expire_grants(tenant, NULL) > 0 THEN account := lock_credit_account(); END IF;
    IF enforced AND add_credits.amount < 0 AND account.balance < -add_credits.amount THEN
      RETURN jsonb_build_object('outcome', 'insufficient', 'required', -add_credits.amount,
        'available', account.balance, 'missing', -add_credits.amount - account.balance);
    END IF;
    IF add_credits.amount > most - account.granted OR -add_credits.amount - account.balance > most - account.granted THEN
      RETURN jsonb_build_object('outcome', 'overflow');
    END IF;
    IF add_credits.amount < 0 THEN
      PERFORM draw_credits(tenant, least(-add_credits.amount, greatest(account.balance, 0)));
    END IF;
    UPDATE credit_accounts a SET granted = a.granted + greatest(add_credits.amount, 0),
      last_grant = CASE kind WHEN 'grant' THEN add_credits.amount ELSE a.last_grant END WHERE a.tenant_id = tenant;
    after := append_credit_entry(tenant, kind, add_credits.amount, abs(add_credits.amount), 0,
      about || jsonb_build_object('grant_id', added));
    IF added IS NOT NULL THEN
      INSERT INTO credit_grants (id, tenant_id, sequence, amount, remaining, expires_at)
      VALUES (added, tenant, account.sequence + 1, add_credits.amount,
              greatest(after, 0) - greatest(after - add_credits.amount, 0), expires);
    END IF;
    RETURN watch_credits(tenant, false) || jsonb_build_object('outcome', 'added', 'sequence', account.sequence + 1);
  END $$`,
  `
  -- Takes what has become due, once for each key and as far as the balance allows where it is enforced.
  CREATE FUNCTION charge_credits(cost bigint, about jsonb, enforced boolean) RETURNS jsonb
  LANGUAGE plpgsql SET search_path = public AS $$
  DECLARE
    most constant bigint := 9007199254740991;
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    this_month date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    account credit_accounts;
    tenant uuid;
    taken bigint := cost;
  BEGIN
    account := lock_credit_account();
    tenant := account.tenant_id;
    PERFORM 1 FROM credit_ledger l WHERE l.tenant_id = tenant AND l.idempotency_key = about->>'idempotency_key';
    IF FOUND THEN RETURN jsonb_build_object('outcome', 'replayed'); END IF;
    IF expire_grants(tenant, NULL) > 0 THEN account := lock_credit_account(); END IF;
    IF enforced THEN taken := least(taken, greatest(account.balance, 0)); END IF;
    taken := least(taken, greatest(most - account.granted + account.balance, 0));
    PERFORM draw_credits(tenant, least(taken, greatest(account.balance, 0)));
    INSERT INTO credit_months AS known (tenant_id, month, token_id, spent) VALUES (tenant, this_month, nobody, taken)
    ON CONFLICT (tenant_id, month, token_id) DO UPDATE SET spent = known.spent + excluded.spent;
    PERFORM append_credit_entry(tenant, 'commit', -taken, taken, 0, about || jsonb_build_object('note',
      CASE WHEN taken < cost THEN format('%s of %s could not be taken', cost - taken, cost) END));
    RETURN watch_credits(tenant, taken < cost) || jsonb_build_object('outcome', 'committed', 'charged', taken,
      'shortfall', cost - taken);
  END $$`,
];

export const CREDIT_FUNCTIONS = [
  'credit_entry_id()',
  'lock_credit_account()',
  'append_credit_entry(uuid, text, bigint, bigint, bigint, jsonb)',
  'draw_credits(uuid, bigint)',
  'return_credits(uuid, bigint, jsonb)',
  'expire_grants(uuid, integer)',
  'watch_credits(uuid, boolean)',
  'reserve_credits(uuid, bigint, jsonb, integer, boolean)',
  'close_reservation(credit_reservations, text, text)',
  'commit_credits(uuid, bigint, jsonb, boolean)',
  'release_credits(uuid, text)',
  'sweep_credits(integer)',
  'add_credits(text, bigint, timestamptz, jsonb, boolean)',
  'charge_credits(bigint, jsonb, boolean)',
].join(', ');
