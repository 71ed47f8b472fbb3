-- What is deleted stays in the pages of a table until it is written anew, and in its statistics until they are taken
-- anew. Which tables that concerns, and when each was rewritten last (ledger/scrub.py).

create table ledger.scrub (
    relation   text        primary key,
    updates    boolean     not null,      -- whether an update, too, may leave behind what was to go
    at         timestamptz,               -- rewritten, and everything deleted before is gone; null: never
    changes    bigint      not null default 0,  -- deletions (and updates) that the server had counted then,
    erasures   bigint      not null default 0,  -- how far erasures had come,
    started    timestamptz not null default pg_postmaster_start_time(),  -- and since when the server ran
    held_ms    bigint      not null default 0   -- for how long the rewriting kept everybody waiting, at most
);

-- Every table is rewritten, but for those of which nothing is ever deleted that was a person's.
insert into ledger.scrub (relation, updates)
    select c.relname, c.relname not in ('opening', 'state', 'known', 'unfolded')
      from pg_class c
     where c.relnamespace = 'ledger'::regnamespace and c.relkind = 'r'
       and c.relname not in (
           'migration', 'site', 'entry', 'document', 'policy', 'signer', 'erased', 'key_entry', 'projection',
           'checkpoint', 'checkpointer', 'tile', 'consumer', 'cookie_review', 'observed_cookie', 'scrub'
       );

-- ANALYZE copies values into pg_statistic, where they outlive their row. What is sealed or hashed is of no use there;
-- of the keys by which rows are found a handful is enough to tell how many there are.
do $$
declare
    v_column record;
begin
    for v_column in
        select s.relation, a.attname, a.attname in ('visitor', 'subject', 'key') as looked_up
          from ledger.scrub s
          join pg_attribute a on a.attrelid = format('ledger.%I', s.relation)::regclass
         where a.attnum > 0 and not a.attisdropped and a.atttypid in ('bytea'::regtype, 'bytea[]'::regtype)
    loop
        execute format('alter table ledger.%I alter column %I set statistics %s',
                       v_column.relation, v_column.attname, case when v_column.looked_up then 1 else 0 end);
    end loop;
    -- Before 17 only a table's owner may rewrite it: there `scrub` is run with LEDGER_ADMIN_DATABASE_URL.
    if current_setting('server_version_num')::integer >= 170000 then
        for v_column in select s.relation from ledger.scrub s loop
            execute format('grant maintain on ledger.%I to ledger_service', v_column.relation);
        end loop;
    end if;
end $$;

-- How far erasures have come: it grows with every one of them, and a restart does not forget it.
create function ledger.erasures_so_far() returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(sum(m.by_seq), 0)::bigint
      from ledger.site s
     cross join lateral (select max(e.by_seq) as by_seq from ledger.erased e where e.site_id = s.site_id) m;
$$;

create function ledger.record_scrub(p_relation text, p_changes bigint, p_erasures bigint, p_held_ms bigint) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update ledger.scrub s
       set at = now(), changes = p_changes, erasures = p_erasures, started = pg_postmaster_start_time(), held_ms = p_held_ms
     where s.relation = p_relation;
$$;

revoke all on function ledger.erasures_so_far, ledger.record_scrub from public;
grant execute on function ledger.erasures_so_far, ledger.record_scrub to ledger_service;
grant select on ledger.scrub to ledger_service;
