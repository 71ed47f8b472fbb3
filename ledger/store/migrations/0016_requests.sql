-- The register of requests that people make about their data (beside the log).
--
-- `request` is a request as it stands, `request_step` what led there, which nobody changes. Who asked is in `subject`
-- (keyed hash) and sealed in `details` and `instruction`: all three are forgotten with the person. What stays proves
-- that we answered: kind, dates, outcome, and the hash that fits the details alone.

create table ledger.request (
    site_id       integer     not null,
    id            uuid        not null,
    kind          text        not null check (kind in ('access', 'erasure', 'portability', 'objection', 'correction')),
    state         text        not null
        check (state in ('received', 'proven', 'forwarded', 'instructed', 'answered', 'refused')),
    steps         integer     not null,
    subject       bytea       check (octet_length(subject) = 16),
    details       bytea,
    instruction   bytea,
    evidence      bytea       not null check (octet_length(evidence) = 32),
    received_at   timestamptz not null,
    due_at        timestamptz not null,
    -- When it was due before it was put off; the latest to which it may be, null where there is no room.
    extended_from timestamptz,
    extendable_to timestamptz,
    closed_at     timestamptz,
    -- The newest challenge that was answered: one made at that time or before proves nothing any more.
    challenged_ms bigint      not null,
    -- The controller was told of it.
    told_at       timestamptz,
    primary key (site_id, id)
);
create index request_open on ledger.request (site_id, due_at) where closed_at is null;
create index request_untold on ledger.request (site_id, id) where state = 'forwarded' and told_at is null;

create table ledger.request_step (
    -- `act`: position of the administrative act that was recorded before the step was taken.
    site_id  integer     not null,
    id       uuid        not null,
    n        integer     not null,
    step     text        not null
        check (step in ('receive', 'prove', 'identify', 'forward', 'extend', 'instruct', 'answer', 'refuse')),
    state    text        not null,
    party    text        not null check (party in ('visitor', 'operator', 'ledger')),
    taken_at timestamptz not null,
    act      text        not null,
    reason   text,
    primary key (site_id, id, n)
);

create trigger append_only before update or delete on ledger.request_step
    for each row execute function ledger.refuse();
create trigger no_truncate before truncate on ledger.request_step
    for each statement execute function ledger.refuse();
alter table ledger.request_step enable always trigger append_only;
alter table ledger.request_step enable always trigger no_truncate;

-- A request as store/requests reads it; times in unix milliseconds.
create function ledger.request_at(p_site_id integer, p_id uuid) returns table (
    id text, kind text, state text, steps integer, subject bytea, details bytea, instruction bytea, evidence bytea,
    received_ms bigint, due_ms bigint, extended_from_ms bigint, extendable_to_ms bigint, closed_ms bigint
) language sql stable set search_path = pg_catalog, pg_temp as $$
    select r.id::text, r.kind, r.state, r.steps, r.subject, r.details, r.instruction, r.evidence,
           (extract(epoch from r.received_at) * 1000)::bigint, (extract(epoch from r.due_at) * 1000)::bigint,
           (extract(epoch from r.extended_from) * 1000)::bigint, (extract(epoch from r.extendable_to) * 1000)::bigint,
           (extract(epoch from r.closed_at) * 1000)::bigint
      from ledger.request r where r.site_id = p_site_id and r.id = p_id;
$$;

-- Enter a request. `registered`; or `known`: it is here; or `open`: another of the same person and kind waits (`other`);
-- or `full`: `p_max_open` wait at this site.
create function ledger.register_request(
    p_site_id integer, p_id uuid, p_kind text, p_state text, p_step text, p_party text, p_subject bytea,
    p_details bytea, p_evidence bytea, p_received_ms bigint, p_due_ms bigint, p_extendable_to_ms bigint,
    p_challenged_ms bigint, p_act text, p_max_open integer, out outcome text, out other uuid
) language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock(1919251830, p_site_id);  -- "requ": the site's row is left alone, appends wait for it
    if exists (select 1 from ledger.request r where r.site_id = p_site_id and r.id = p_id) then
        outcome := 'known';
        return;
    end if;
    select r.id into other from ledger.request r
     where r.site_id = p_site_id and r.closed_at is null and r.subject = p_subject and r.kind = p_kind limit 1;
    if found then
        outcome := 'open';
        return;
    end if;
    if (select count(*) from ledger.request r where r.site_id = p_site_id and r.closed_at is null) >= p_max_open then
        outcome := 'full';
        return;
    end if;
    insert into ledger.request (site_id, id, kind, state, steps, subject, details, evidence, received_at, due_at,
                                extendable_to, challenged_ms)
        values (p_site_id, p_id, p_kind, p_state, 1, p_subject, p_details, p_evidence,
                to_timestamp(p_received_ms / 1000.0), to_timestamp(p_due_ms / 1000.0),
                to_timestamp(p_extendable_to_ms / 1000.0), p_challenged_ms);
    insert into ledger.request_step (site_id, id, n, step, state, party, taken_at, act)
        values (p_site_id, p_id, 1, p_step, p_state, p_party, clock_timestamp(), p_act);
    outcome := 'registered';
end $$;

-- A challenge about a known request was answered by its visitor: whether it is newer than any that was before.
create function ledger.prove_request(p_site_id integer, p_id uuid, p_subject bytea, p_challenged_ms bigint)
returns boolean language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update ledger.request r set challenged_ms = p_challenged_ms
     where r.site_id = p_site_id and r.id = p_id and r.subject = p_subject and r.challenged_ms < p_challenged_ms;
    return found;
end $$;

-- Take the step that follows `p_steps` others; false if another was taken meanwhile. `p_due_ms`: to when it is put off.
create function ledger.advance_request(
    p_site_id integer, p_id uuid, p_steps integer, p_step text, p_state text, p_party text, p_act text, p_reason text,
    p_instruction bytea, p_due_ms bigint
) returns boolean language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update ledger.request r
       set steps = p_steps + 1, state = p_state,
           -- What was forgotten meanwhile is not written anew.
           instruction = case when r.details is null then null else coalesce(p_instruction, r.instruction) end,
           extended_from = case when p_due_ms is null then r.extended_from else r.due_at end,
           due_at = coalesce(to_timestamp(p_due_ms / 1000.0), r.due_at),
           closed_at = case when p_state in ('answered', 'refused') then clock_timestamp() end
     where r.site_id = p_site_id and r.id = p_id and r.steps = p_steps and r.closed_at is null;
    if not found then
        return false;
    end if;
    insert into ledger.request_step (site_id, id, n, step, state, party, taken_at, act, reason)
        values (p_site_id, p_id, p_steps + 1, p_step, p_state, p_party, clock_timestamp(), p_act, p_reason);
    return true;
end $$;

create function ledger.request_told(p_site_id integer, p_id uuid) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update ledger.request r set told_at = clock_timestamp() where r.site_id = p_site_id and r.id = p_id;
$$;

-- Forget who asked: of these subjects, or (null) of requests that ended before a time. How many requests it was.
create function ledger.forget_requests(p_site_id integer, p_subjects bytea[], p_closed_before_ms bigint)
returns integer language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count integer;
begin
    update ledger.request r set subject = null, details = null, instruction = null
     where r.site_id = p_site_id and r.details is not null
       and (r.subject = any (p_subjects)
            or (p_subjects is null and r.closed_at < to_timestamp(p_closed_before_ms / 1000.0)));
    get diagnostics v_count = row_count;
    return v_count;
end $$;

revoke all on function ledger.request_at, ledger.register_request, ledger.prove_request, ledger.advance_request,
    ledger.request_told, ledger.forget_requests from public;
grant execute on function ledger.request_at, ledger.register_request, ledger.prove_request, ledger.advance_request,
    ledger.request_told, ledger.forget_requests to ledger_service;
grant select on ledger.request, ledger.request_step to ledger_service;
