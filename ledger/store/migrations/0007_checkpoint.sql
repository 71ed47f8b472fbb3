-- What auditors read: full hash tiles, and the log's signed checkpoints with the cosignatures that witnesses gave.
--
-- The checkpointer writes here and nobody else. Nothing of it is trusted: tiles and roots follow from the entries, and
-- what was signed is known outside the database too (a local anchor, NATS, witnesses), so that an older copy that is
-- put back is noticed.

create table ledger.tile (
    -- Full hash tiles (C2SP tlog-tiles), 256 hashes each. Partial ones and entry bundles are derived from the rest.
    site_id integer  not null,
    level   smallint not null,
    n       bigint   not null,
    hashes  bytea    not null check (octet_length(hashes) = 8192),
    primary key (site_id, level, n)
);
alter table ledger.tile alter column hashes set storage external;  -- hashes do not shrink

create table ledger.checkpoint (
    -- Signed notes as they are served: the log's signatures, then the cosignatures as they came.
    site_id   integer     not null,
    size      bigint      not null,
    note      bytea       not null,
    cosigned  boolean     not null,  -- as many witnesses as the quorum asks for have cosigned (true where it asks for none)
    signed_at timestamptz not null default now(),
    primary key (site_id, size)
);

create table ledger.checkpointer (
    -- One row a site: what was signed last, and how the checkpointer fares. The row is its compare-and-swap.
    site_id   integer     primary key,
    size      bigint      not null,
    state     text        not null check (state in ('signing', 'waiting', 'refused')),
    reason    text        not null default '',  -- a stable word, empty while all is well
    detail    text        not null default '',  -- for the person who reads /readyz
    witnesses text        not null default '[]',  -- JSON, what is known of each witness
    seen_at   timestamptz not null default now()
);

-- Publish a checkpoint with the tiles that became full. False: somebody else signed since `p_previous` (0: the first).
-- The size written last may be written again where its row is gone: an operator puts it back (`checkpoint
-- restore-record`).
create function ledger.put_checkpoint(
    p_site_id integer, p_previous bigint, p_size bigint, p_note bytea, p_cosigned boolean,
    p_level smallint[], p_n bigint[], p_hashes bytea[]
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into ledger.checkpointer (site_id, size, state) values (p_site_id, 0, 'waiting') on conflict do nothing;
    perform 1 from ledger.checkpointer c where c.site_id = p_site_id and c.size = p_previous for update;
    if not found or p_size < p_previous
       or exists (select 1 from ledger.checkpoint c where c.site_id = p_site_id and c.size >= p_size) then
        return false;
    end if;
    insert into ledger.tile (site_id, level, n, hashes)
        select p_site_id, t.level, t.n, t.hashes from unnest(p_level, p_n, p_hashes) t(level, n, hashes)
        on conflict do nothing;
    insert into ledger.checkpoint (site_id, size, note, cosigned) values (p_site_id, p_size, p_note, p_cosigned);
    update ledger.checkpointer c
       set size = p_size, state = 'signing', seen_at = now(),
           -- What is told of places that cannot be asked stands until it is told otherwise.
           reason = case c.state when 'signing' then c.reason else '' end,
           detail = case c.state when 'signing' then c.detail else '' end
     where c.site_id = p_site_id;
    return true;
end $$;

-- The same checkpoint with other signature lines. False: there is no such checkpoint any more, or it says something else
-- above the empty line: what was signed stays.
create function ledger.put_cosignatures(p_site_id integer, p_size bigint, p_note bytea, p_cosigned boolean)
returns boolean language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update ledger.checkpoint c set note = p_note, cosigned = p_cosigned
     where c.site_id = p_site_id and c.size = p_size
       and substring(p_note from 1 for position('\x0a0a'::bytea in c.note) + 1)
           = substring(c.note from 1 for position('\x0a0a'::bytea in c.note) + 1);
    return found;
end $$;

-- A sign of life, or of trouble.
create function ledger.report_checkpointer(
    p_site_id integer, p_state text, p_reason text, p_detail text, p_witnesses text
) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    insert into ledger.checkpointer as c (site_id, size, state, reason, detail, witnesses)
        values (p_site_id, 0, p_state, p_reason, p_detail, p_witnesses)
        on conflict (site_id) do update
           set state = p_state, reason = p_reason, detail = p_detail, witnesses = p_witnesses, seen_at = now();
$$;

-- Keep of the older checkpoints the first cosigned one (else the first) of every ten minutes; how many went. The last of
-- them stay, signed and cosigned: on a quiet log one is what is served until its follower has its quorum.
create function ledger.thin_checkpoints(p_site_id integer, p_older_than interval, p_limit integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count integer;
begin
    with old as (
        select c.size, row_number() over (
                   partition by floor(extract(epoch from c.signed_at) / 600) order by not c.cosigned, c.size) as n
          from ledger.checkpoint c
         where c.site_id = p_site_id and c.signed_at < now() - p_older_than
    ), last as (
        select max(o.size) as size from old o
        union all select max(m.size) from ledger.checkpoint m where m.site_id = p_site_id and m.cosigned
    )
    delete from ledger.checkpoint c using (select o.size from old o where o.n > 1 limit p_limit) o
     where c.site_id = p_site_id and c.size = o.size and c.size > 1
       and not exists (select 1 from last l where l.size = c.size);
    get diagnostics v_count = row_count;
    return v_count;
end $$;

revoke all on function ledger.put_checkpoint, ledger.put_cosignatures, ledger.report_checkpointer,
    ledger.thin_checkpoints from public;
grant execute on function ledger.put_checkpoint, ledger.put_cosignatures, ledger.report_checkpointer,
    ledger.thin_checkpoints to ledger_service;
grant select on ledger.tile, ledger.checkpoint, ledger.checkpointer to ledger_service;
