-- Retention: when to look at which part of the log again, what went, and sites that are closed. Beside the log.

create table ledger.retention_block (
    -- A run of `config.RETENTION_BLOCK_SEQS` seqs: before `next_ms` (null: ever) nothing in it is due, under the
    -- versions up to `policy_seq`.
    site_id    integer not null,
    block      bigint  not null,
    policy_seq bigint  not null,
    next_ms    bigint,
    primary key (site_id, block)
);

create table ledger.retention_batch (
    -- What went with one erasure entry. `as_of_ms` is one run's for all its batches; `first_seq` the first event that
    -- went; `counts` a JSON object, from "type purpose month" to how many.
    site_id   integer not null,
    as_of_ms  bigint  not null,
    first_seq bigint  not null,
    act       text    not null,
    events    integer not null,
    people    integer not null,
    counts    text    not null,
    done      boolean not null default false,
    primary key (site_id, as_of_ms, first_seq)
);

create table ledger.site_closing (
    -- A site for which nothing is recorded any more. `ended_ms`: since when no event is left but those that law keeps.
    site_id      integer not null primary key,
    act          text    not null,
    evidence     bytea   not null check (octet_length(evidence) = 32),
    requested_ms bigint  not null,
    ended_ms     bigint
);

grant select on ledger.retention_block, ledger.retention_batch, ledger.site_closing to ledger_service;

-- Say of blocks when they are to be looked at again.
create function ledger.put_retention_blocks(p_site_id integer, p_policy_seq bigint, p_block bigint[], p_next_ms bigint[])
returns void language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    insert into ledger.retention_block (site_id, block, policy_seq, next_ms)
        select p_site_id, d.block, p_policy_seq, d.next_ms from unnest(p_block, p_next_ms) d(block, next_ms)
        on conflict (site_id, block) do update set policy_seq = excluded.policy_seq, next_ms = excluded.next_ms;
$$;

-- Note a batch before its events are erased, and `end_` it afterwards.
create function ledger.begin_retention_batch(
    p_site_id integer, p_as_of_ms bigint, p_first_seq bigint, p_act text, p_events integer, p_people integer,
    p_counts text
) returns void language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    insert into ledger.retention_batch (site_id, as_of_ms, first_seq, act, events, people, counts)
        values (p_site_id, p_as_of_ms, p_first_seq, p_act, p_events, p_people, p_counts)
        on conflict (site_id, as_of_ms, first_seq) do update
           set act = excluded.act, events = excluded.events, people = excluded.people, counts = excluded.counts;
$$;

-- Whatever ended a run between the two: a batch whose first event is gone was done, for its events go together; one
-- whose first event is there was not. Reports older than `p_before_ms` go.
create function ledger.end_retention_batches(p_site_id integer, p_before_ms bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update ledger.retention_batch b set done = true
     where b.site_id = p_site_id and not b.done
       and not exists (select 1 from ledger.opening o where o.site_id = b.site_id and o.seq = b.first_seq);
    delete from ledger.retention_batch b
     where b.site_id = p_site_id and (not b.done or b.as_of_ms < p_before_ms);
end $$;

-- Close a site: false if it is closed already.
create function ledger.close_site(p_site_id integer, p_act text, p_evidence bytea, p_requested_ms bigint) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into ledger.site_closing (site_id, act, evidence, requested_ms)
        values (p_site_id, p_act, p_evidence, p_requested_ms) on conflict do nothing;
    return found;
end $$;

-- Done, unless an erasure waits that was ordered before, or somebody is restricted, whose records stay meanwhile.
create function ledger.end_closing(p_site_id integer) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update ledger.site_closing c set ended_ms = (extract(epoch from clock_timestamp()) * 1000)::bigint
     where c.site_id = p_site_id and c.ended_ms is null
       and not exists (select 1 from ledger.erasure r where r.site_id = p_site_id and r.status = 'pending')
       and not exists (select 1 from ledger.block b where b.site_id = p_site_id and b.state = 'restricted');
$$;

revoke all on function ledger.put_retention_blocks, ledger.begin_retention_batch, ledger.end_retention_batches,
    ledger.close_site, ledger.end_closing from public;
grant execute on function ledger.put_retention_blocks, ledger.begin_retention_batch, ledger.end_retention_batches,
    ledger.close_site, ledger.end_closing to ledger_service;
