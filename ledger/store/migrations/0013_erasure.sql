-- Forgetting: erasures ordered, who is blocked meanwhile, and what outlives an erasure.
--
-- A subject is the keyed hash of a visitor or of an account (16 bytes). None of these tables is part of the log: what
-- was erased, and why, is told by the erasure entries and their records.

create table ledger.erasure (
    -- One order, and how far it is. `subject` is forgotten (null) with the last thing that is kept under it (block, mark,
    -- proof, what law wants kept), by which all orders tell what is left of the person; `named`, a keyed hash of id,
    -- subject and `hold_for`, stays: by it an order that is sent again is known, and nobody is found. While all of `awaits`
    -- are restricted nothing goes for it: what is left are their records. `account_order`: the order of an account that
    -- this one, of one of its browsers, was made with. `browsers_left`: how many browsers of the account none covered.
    site_id      integer not null,
    id           uuid    not null,
    subject      bytea,
    named        bytea   not null check (octet_length(named) = 16),
    is_account   boolean not null,
    level        text    not null check (level in ('erase', 'hold', 'restrict')),
    reason       text    not null,
    sealed       bytea   not null,  -- the instruction, as it was given, under the site's register key
    evidence     bytea   not null check (octet_length(evidence) = 32),
    hold_for     text,              -- ISO 8601; with the level hold
    act          text    not null,  -- position of the administrative act that ordered it
    status       text    not null check (status in ('pending', 'erased', 'restricted', 'lifted', 'superseded')),
    requested_ms bigint  not null,
    blocked_ms   bigint  not null,
    due_ms       bigint  not null,
    ended_ms     bigint,            -- when nothing was left to erase, or a restriction was lifted
    events       bigint  not null default 0,
    awaits       bytea[] not null default '{}',
    account_order uuid,
    browsers_left integer not null default 0,
    primary key (site_id, id)
);
create index erasure_of on ledger.erasure (site_id, subject) where subject is not null;
create index erasure_with on ledger.erasure (site_id, account_order) where account_order is not null;
create index erasure_waiting on ledger.erasure (site_id, due_ms) where status = 'pending';

create table ledger.erasure_entry (
    -- Which erasure entries took away how many events for an order.
    site_id integer not null,
    erasure uuid    not null,
    seq     bigint  not null,
    events  integer not null,
    primary key (site_id, erasure, seq)
);

create table ledger.block (
    -- Under pending and erased nothing is recorded; under each of the three every optional purpose is denied.
    site_id  integer not null,
    subject  bytea   not null,
    state    text    not null check (state in ('pending', 'restricted', 'erased')),
    since_ms bigint  not null,
    until_ms bigint,
    erasure  uuid    not null,
    primary key (site_id, subject)
);

create table ledger.mark (
    -- What stands in for denials that were erased: see core/question. The newest of each purpose.
    site_id  integer not null,
    subject  bytea   not null,
    purpose  text    not null,
    set_ms   bigint  not null,
    until_ms bigint  not null,
    seq      bigint  not null,
    erasure  uuid,
    primary key (site_id, subject, purpose)
);
create index mark_by on ledger.mark (site_id, erasure) where erasure is not null;

create table ledger.held (
    -- Openings that were erased and are held as proof for a term, under a data key of their own. `whose`: the subject of
    -- the order, whoever made the event, and under whom it was filed.
    site_id  integer not null,
    seq      bigint  not null,
    sealed   bytea   not null,
    until_ms bigint  not null,
    erasure  uuid    not null,
    whose    bytea[] not null,
    primary key (site_id, seq)
);
create index held_by on ledger.held (site_id, erasure);

create table ledger.kept (
    -- Events that an erasure left, for law wants them kept until then. Each order lists what it found.
    site_id  integer not null,
    seq      bigint  not null,
    until_ms bigint  not null,
    purposes text[]  not null,
    erasure  uuid    not null,
    primary key (site_id, seq, erasure)
);
create index kept_by on ledger.kept (site_id, erasure);

create table ledger.related (
    -- Which visitors ever had to do with which accounts, both ways: an account's links lie under its visitors, a
    -- visitor's choices for accounts under these.
    site_id integer not null,
    subject bytea   not null,
    other   bytea   not null,
    primary key (site_id, subject, other)
);

grant select on ledger.erasure, ledger.erasure_entry, ledger.block, ledger.mark, ledger.held, ledger.kept,
    ledger.related to ledger_service;

create table ledger.fading (
    -- Keyed ids of erased events: a late retry is told that it was erased, until then.
    site_id  integer not null,
    key      bytea   not null,
    until_ms bigint  not null,
    primary key (site_id, key)
);
create index fading_until on ledger.fading (site_id, until_ms);
grant select on ledger.fading to ledger_service;

-- Order an erasure or a restriction, and block the subject from this moment on: what was recorded before is committed, and
-- what comes after finds the block. 'ordered', or 'known' where this very order was made before (that all else is the same
-- is told by its act); 'taken' where the id is another order's, 'blocked' where something that is erased, or about to be,
-- would only be restricted. 'browsers' where an account has to do with others than `p_browsers` (null: whoever they are),
-- which were looked after before: do that first, for its own order destroys what tells of them.
create function ledger.order_erasure(
    p_site_id integer, p_id uuid, p_subject bytea, p_named bytea, p_is_account boolean, p_level text, p_reason text,
    p_sealed bytea, p_evidence bytea, p_hold_for text, p_act text, p_wait_ms bigint, p_account_order uuid,
    p_browsers bytea[]
) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_known ledger.erasure;
    v_state text;
    v_ms    bigint;
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    if not found then
        raise exception 'no site %', p_site_id using errcode = 'LG005';
    end if;
    v_ms := (extract(epoch from clock_timestamp()) * 1000)::bigint;
    select * into v_known from ledger.erasure r where r.site_id = p_site_id and r.id = p_id;
    if found then
        return case when v_known.named = p_named then 'known' else 'taken' end;
    end if;
    select b.state into v_state from ledger.block b
     where b.site_id = p_site_id and b.subject = p_subject and (b.until_ms is null or b.until_ms > v_ms);
    if p_level = 'restrict' and v_state in ('pending', 'erased') then
        return 'blocked';
    end if;
    if p_browsers is not null and exists (select 1 from ledger.related t
                                           where t.site_id = p_site_id and t.subject = p_subject
                                             and t.other <> all (p_browsers)) then
        return 'browsers';
    end if;
    update ledger.erasure r set status = 'superseded', ended_ms = v_ms
     where r.site_id = p_site_id and r.subject = p_subject and r.status = 'restricted';
    insert into ledger.erasure (site_id, id, subject, named, is_account, level, reason, sealed, evidence, hold_for, act,
                                status, requested_ms, blocked_ms, due_ms, account_order, browsers_left)
        values (p_site_id, p_id, p_subject, p_named, p_is_account, p_level, p_reason, p_sealed, p_evidence, p_hold_for, p_act,
                case when p_level = 'restrict' then 'restricted' else 'pending' end, v_ms, v_ms, v_ms + p_wait_ms, p_account_order,
                (select count(*) from ledger.related t
                  where p_is_account and p_level <> 'restrict' and t.site_id = p_site_id and t.subject = p_subject
                    and not exists (select 1 from ledger.block b
                                     where b.site_id = p_site_id and b.subject = t.other and b.state <> 'restricted')));
    insert into ledger.block as b (site_id, subject, state, since_ms, until_ms, erasure)
        values (p_site_id, p_subject, case when p_level = 'restrict' then 'restricted' else 'pending' end, v_ms, null, p_id)
        on conflict (site_id, subject) do update
           set state = excluded.state, since_ms = excluded.since_ms, until_ms = null, erasure = excluded.erasure;
    return 'ordered';
end $$;

-- End a restriction. False: there is none of that id that still stands.
create function ledger.lift_restriction(p_site_id integer, p_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    update ledger.erasure r
       set status = 'lifted', ended_ms = (extract(epoch from clock_timestamp()) * 1000)::bigint, subject = null
     where r.site_id = p_site_id and r.id = p_id and r.status = 'restricted';
    if not found then
        return false;
    end if;
    delete from ledger.block b where b.site_id = p_site_id and b.erasure = p_id and b.state = 'restricted';
    return true;
end $$;

-- What is left for an order are records of these subjects, who are restricted: it waits until one of them is not.
create function ledger.await_unrestricted(p_site_id integer, p_id uuid, p_awaits bytea[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update ledger.erasure r set awaits = p_awaits
     where r.site_id = p_site_id and r.id = p_id and r.status = 'pending';
$$;

-- Let no order of a site wait any longer to be mixed with others; how many there are.
create function ledger.hasten_erasures(p_site_id integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count integer;
begin
    update ledger.erasure r set due_ms = least(r.due_ms, (extract(epoch from clock_timestamp()) * 1000)::bigint)
     where r.site_id = p_site_id and r.status = 'pending';
    get diagnostics v_count = row_count;
    return v_count;
end $$;

-- Forget whom orders were about of whom nothing is left: no block, no mark, no proof, nothing that law wants kept. Of a
-- restriction nothing is left with its block. By subject, or by an order of theirs.
create function ledger.forget_ordered(p_site_id integer, p_subject bytea[], p_order uuid[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    with people as (
        select unnest(p_subject) as subject
        union
        select r.subject from ledger.erasure r
         where r.site_id = p_site_id and r.id = any (p_order) and r.subject is not null
    ), orders as (
        select p.subject, array_agg(r.id) as ids
          from people p join ledger.erasure r on r.site_id = p_site_id and r.subject = p.subject group by p.subject
    ), remains as (
        select o.subject, exists (select 1 from ledger.block b where b.site_id = p_site_id and b.subject = o.subject) as blocked,
               exists (select 1 from ledger.mark m where m.site_id = p_site_id and m.subject = o.subject)
            or exists (select 1 from ledger.mark m where m.site_id = p_site_id and m.erasure = any (o.ids))
            or exists (select 1 from ledger.held h
                        where h.site_id = p_site_id and (h.erasure = any (o.ids) or o.subject = any (h.whose)))
            or exists (select 1 from ledger.kept k where k.site_id = p_site_id and k.erasure = any (o.ids)) as something
          from orders o
    )
    update ledger.erasure r set subject = null
      from remains o
     where r.site_id = p_site_id and r.subject = o.subject and r.status not in ('pending', 'restricted')
       and not o.blocked and (r.level = 'restrict' or not o.something);
$$;

-- The keys of proof (`p_sealed`) that was taken away just now: each goes with the last that it sealed.
create function ledger.destroy_hold_keys(p_site_id integer, p_sealed bytea[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    update ledger.data_key d set wrapped = null, destroyed_at = now()
     where d.site_id = p_site_id and d.role = 'hold' and d.wrapped is not null
       and d.key_no = any (select ('x' || encode(substring(t.sealed from 2 for 4), 'hex'))::bit(32)::integer
                             from unnest(p_sealed) t(sealed))
       and not exists (select 1 from ledger.held h
                        where h.site_id = p_site_id and substring(h.sealed from 2 for 4) = int4send(d.key_no));
$$;

-- Destroy the proof that is held of these events before its term; how many there were.
create function ledger.release_held(p_site_id integer, p_seq bigint[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_sealed bytea[];
    v_orders uuid[];
    v_whose  bytea[];
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    with gone as (
        delete from ledger.held h where h.site_id = p_site_id and h.seq = any (p_seq) returning h.sealed, h.erasure, h.whose
    )
    select array_agg(g.sealed), array_agg(distinct g.erasure), (select array_agg(distinct w) from gone t, unnest(t.whose) w)
      into v_sealed, v_orders, v_whose from gone g;
    perform ledger.destroy_hold_keys(p_site_id, v_sealed);
    perform ledger.forget_ordered(p_site_id, v_whose, v_orders);
    return coalesce(cardinality(v_sealed), 0);
end $$;

-- What outlives an erasure, and how far its orders are. Of the orders `p_job` so many events went with this entry (null:
-- there is none); those that are done block their subject for another `p_block_ms`.
create function ledger.put_after_erasure(
    p_site_id integer, p_ms bigint, p_entry bigint,
    p_mark_subject bytea[], p_mark_purpose text[], p_mark_set bigint[], p_mark_until bigint[], p_mark_seq bigint[],
    p_mark_job uuid[], p_held_seq bigint[], p_held_sealed bytea[], p_held_until bigint[], p_held_job uuid[],
    p_held_maker bytea[], p_held_filed bytea[],
    p_kept_seq bigint[], p_kept_until bigint[], p_kept_purposes text[], p_kept_job uuid[],
    p_job uuid[], p_job_events integer[], p_job_done boolean[], p_block_ms bigint
) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    v_done bytea[];
begin
    insert into ledger.mark as m (site_id, subject, purpose, set_ms, until_ms, seq, erasure)
        -- Two whose denials held for one account may go together: one row of each purpose, the newest.
        select p_site_id, d.subject, d.purpose, max(d.set_ms), max(d.until_ms),
               (array_agg(d.seq order by d.set_ms desc, d.seq desc))[1],
               (array_agg(d.job order by d.set_ms desc, d.seq desc))[1]
          from unnest(p_mark_subject, p_mark_purpose, p_mark_set, p_mark_until, p_mark_seq, p_mark_job)
               d(subject, purpose, set_ms, until_ms, seq, job)
         group by d.subject, d.purpose
        on conflict (site_id, subject, purpose) do update
           set set_ms = greatest(m.set_ms, excluded.set_ms), until_ms = greatest(m.until_ms, excluded.until_ms),
               seq = case when excluded.set_ms >= m.set_ms then excluded.seq else m.seq end,
               erasure = coalesce(excluded.erasure, m.erasure);  -- its order goes on to list it
    insert into ledger.held (site_id, seq, sealed, until_ms, erasure, whose)
        select p_site_id, d.seq, d.sealed, d.until_ms, d.job, array[r.subject, d.maker, d.filed]
          from unnest(p_held_seq, p_held_sealed, p_held_until, p_held_job, p_held_maker, p_held_filed)
               d(seq, sealed, until_ms, job, maker, filed)
          join ledger.erasure r on r.site_id = p_site_id and r.id = d.job;
    insert into ledger.kept as k (site_id, seq, until_ms, purposes, erasure)
        select p_site_id, d.seq, d.until_ms, string_to_array(d.purposes, ' '), d.job
          from unnest(p_kept_seq, p_kept_until, p_kept_purposes, p_kept_job) d(seq, until_ms, purposes, job)
        on conflict (site_id, seq, erasure) do nothing;
    if p_entry is not null then
        insert into ledger.erasure_entry (site_id, erasure, seq, events)
            select p_site_id, d.job, p_entry, d.events from unnest(p_job, p_job_events) d(job, events) where d.events > 0;
    end if;
    update ledger.erasure r
       set events = r.events + d.events,
           status = case when d.done then 'erased' else r.status end,
           ended_ms = case when d.done then p_ms else r.ended_ms end,
           awaits = case when d.done then '{}' else r.awaits end
      from unnest(p_job, p_job_events, p_job_done) d(job, events, done)
     where r.site_id = p_site_id and r.id = d.job and r.status = 'pending';
    v_done := array(select r.subject from unnest(p_job, p_job_done) d(job, done)
                      join ledger.erasure r on r.site_id = p_site_id and r.id = d.job where d.done);
    update ledger.block b set state = 'erased', since_ms = p_ms, until_ms = p_ms + p_block_ms
     where b.site_id = p_site_id and b.subject = any (v_done);
    delete from ledger.related t
     where t.site_id = p_site_id and (t.subject = any (v_done)
           or (t.subject, t.other) in (select o.other, o.subject from ledger.related o
                                        where o.site_id = p_site_id and o.subject = any (v_done)));
    perform ledger.forget_requests(p_site_id, v_done, null);  -- what the register says of them
end $$;

-- The erasing transaction: `append_one` of an erasure entry, with all that outlives it. Outcome 5, and nothing done, where
-- one of the events that it names has no opening any more, or something was recorded under one of `p_subject` at
-- `p_upto` or after, or one of `p_whose` is restricted (where it is for no order: or is to be erased by one): then it has
-- to be decided anew what goes. `p_key` are the keyed ids of the events.
create function ledger.append_erasure(
    p_site_id integer, p_process_ms bigint, p_known_size bigint, p_known_leaf bytea, p_signer bytea,
    p_commit bytea, p_signature bytea, p_public bytea, p_sealed bytea, p_subject bytea[], p_upto bigint,
    p_whose bytea[], p_key bytea[],
    p_mark_subject bytea[], p_mark_purpose text[], p_mark_set bigint[], p_mark_until bigint[], p_mark_seq bigint[],
    p_mark_job uuid[], p_held_seq bigint[], p_held_sealed bytea[], p_held_until bigint[], p_held_job uuid[],
    p_held_maker bytea[], p_held_filed bytea[],
    p_kept_seq bigint[], p_kept_until bigint[], p_kept_purposes text[], p_kept_job uuid[],
    p_job uuid[], p_job_events integer[], p_job_done boolean[], p_block_ms bigint,
    out outcome smallint, out seq bigint, out ms bigint, out size bigint, out prev bytea, out tip bytea
) language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_log   bytea;
    v_seqs  bigint[];
    v_known boolean;
    v_orders uuid[];
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    select ledger.leaf_hash(e.entry) into v_log from ledger.entry e where e.site_id = p_site_id and e.seq = 0;
    v_known := exists (select 1 from ledger.known k
                        where k.site_id = p_site_id and k.key = ledger.core_hash(v_log, 3, p_commit, p_public));
    v_seqs := array(select ledger.u64(substring(p_public from g.i for 8))
                      from generate_series(1, octet_length(p_public), 8) g(i));
    if not v_known
       and (exists (select 1 from unnest(v_seqs) d(seq)
                     where not exists (select 1 from ledger.opening o where o.site_id = p_site_id and o.seq = d.seq offset 0))
            or exists (select 1 from unnest(p_subject) d(subject)
                        where exists (select 1 from ledger.opening o
                                       where o.site_id = p_site_id and o.visitor = d.subject and o.seq >= p_upto offset 0))
            or exists (select 1 from ledger.block b
                        where b.site_id = p_site_id and b.subject = any (p_whose)
                          and (b.state = 'restricted' or (b.state = 'pending' and cardinality(p_job) = 0)))) then
        select 5, null, h.ms, h.size, h.tip, h.tip into outcome, seq, ms, size, prev, tip
          from ledger.lock_head(p_site_id, p_process_ms, p_known_size, p_known_leaf) h;
        return;
    end if;
    select a.outcome, a.seq, a.ms, a.size, a.prev, a.tip into outcome, seq, ms, size, prev, tip
      from ledger.append_one(p_site_id, p_process_ms, p_known_size, p_known_leaf, p_signer, 3, p_commit, p_signature,
                             p_public, p_sealed) a;
    if outcome <> 0 then
        return;
    end if;
    insert into ledger.fading (site_id, key, until_ms)
        select p_site_id, k.key, append_erasure.ms + p_block_ms from unnest(p_key) k(key) on conflict do nothing;
    with gone as (
        delete from ledger.kept k where k.site_id = p_site_id and k.seq = any (v_seqs) returning k.erasure
    )
    select array_agg(g.erasure) into v_orders from gone g;
    perform ledger.put_after_erasure(
        p_site_id, ms, seq, p_mark_subject, p_mark_purpose, p_mark_set, p_mark_until, p_mark_seq, p_mark_job, p_held_seq,
        p_held_sealed, p_held_until, p_held_job, p_held_maker, p_held_filed, p_kept_seq, p_kept_until, p_kept_purposes,
        p_kept_job, p_job, p_job_events, p_job_done, p_block_ms);
    if v_orders is not null then
        perform ledger.forget_ordered(p_site_id, '{}', v_orders);
    end if;
end $$;

-- The end of orders for which nothing has to go, or nothing is left to go.
create function ledger.end_erasures(
    p_site_id integer,
    p_mark_subject bytea[], p_mark_purpose text[], p_mark_set bigint[], p_mark_until bigint[], p_mark_seq bigint[],
    p_mark_job uuid[], p_kept_seq bigint[], p_kept_until bigint[], p_kept_purposes text[], p_kept_job uuid[],
    p_job uuid[], p_block_ms bigint
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    perform ledger.put_after_erasure(
        p_site_id, (extract(epoch from clock_timestamp()) * 1000)::bigint, null, p_mark_subject, p_mark_purpose,
        p_mark_set, p_mark_until, p_mark_seq, p_mark_job, '{}', '{}', '{}', '{}', '{}', '{}', p_kept_seq,
        p_kept_until, p_kept_purposes, p_kept_job, p_job, array_fill(0, array[coalesce(array_length(p_job, 1), 0)]),
        array_fill(true, array[coalesce(array_length(p_job, 1), 0)]), p_block_ms);
end $$;

-- Forget what was to outlive an erasure only until now: blocks (and with each under whom it was), marks, proof with the
-- key that it was sealed under, keyed ids. At most `p_limit` of each; how many rows went.
create function ledger.sweep_erasures(p_site_id integer, p_limit integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_ms     bigint := (extract(epoch from clock_timestamp()) * 1000)::bigint;
    v_people bytea[];
    v_whose  bytea[];
    v_orders uuid[];
    v_others uuid[];
    v_sealed bytea[];
    v_count  integer;
    v_sum    integer := 0;
begin
    perform set_config('synchronous_commit', 'off', true);
    with gone as (
        delete from ledger.block b where b.ctid = any (array(
            select t.ctid from ledger.block t where t.site_id = p_site_id and t.until_ms <= v_ms limit p_limit
               for update skip locked))
        returning b.subject
    )
    select count(*), array_agg(g.subject) into v_count, v_people from gone g;
    v_sum := v_sum + v_count;
    with gone as (
        delete from ledger.mark m where m.ctid = any (array(
            select t.ctid from ledger.mark t where t.site_id = p_site_id and t.until_ms <= v_ms limit p_limit))
        returning m.subject, m.erasure
    )
    select count(*), v_people || array_agg(g.subject), array_agg(g.erasure) filter (where g.erasure is not null)
      into v_count, v_people, v_orders from gone g;
    v_sum := v_sum + v_count;
    with gone as (
        delete from ledger.held h where h.ctid = any (array(
            select t.ctid from ledger.held t where t.site_id = p_site_id and t.until_ms <= v_ms limit p_limit))
        returning h.sealed, h.erasure, h.whose
    )
    select count(*), array_agg(g.sealed), array_agg(distinct g.erasure),
           (select array_agg(distinct w) from gone t, unnest(t.whose) w)
      into v_count, v_sealed, v_others, v_whose from gone g;
    v_sum := v_sum + v_count;
    perform ledger.destroy_hold_keys(p_site_id, v_sealed);
    if v_sum > 0 then
        perform ledger.forget_ordered(p_site_id, v_people || v_whose, v_orders || v_others);
    end if;
    with gone as (
        delete from ledger.fading f where f.ctid = any (array(
            select t.ctid from ledger.fading t where t.site_id = p_site_id and t.until_ms <= v_ms
             order by t.until_ms limit p_limit))
        returning f.key
    )
    delete from ledger.known k using gone g where k.site_id = p_site_id and k.key = g.key;
    get diagnostics v_count = row_count;
    return v_sum + v_count;
end $$;

revoke all on function ledger.order_erasure, ledger.lift_restriction, ledger.put_after_erasure, ledger.append_erasure,
    ledger.end_erasures, ledger.sweep_erasures, ledger.hasten_erasures, ledger.await_unrestricted, ledger.forget_ordered,
    ledger.destroy_hold_keys, ledger.release_held from public;
grant execute on function ledger.order_erasure, ledger.lift_restriction, ledger.append_erasure, ledger.end_erasures,
    ledger.sweep_erasures, ledger.hasten_erasures, ledger.await_unrestricted, ledger.release_held to ledger_service;
