-- When a visitor's grants are to be looked at again, and how the ledger's own events about lapses are appended.
--
-- `due_ms` is a hint and nothing more: whoever finds a row due reads the visitor's events, and decides anew. It is
-- computed by whoever writes the row, from the policies that are known then; a version that is published later changes
-- it for everybody, so each published version is followed by one pass over all rows, in batches.

-- Lock rows of the state, without waiting for anybody: which of them are ours now (true), which somebody else's (false),
-- and which are not there (null). Each is looked up by its whole key: joined, a planner without statistics reads them all.
create function ledger.lock_states(p_site_id integer, p_version integer, p_visitor bytea[]) returns boolean[]
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    v_ours    boolean[] := '{}';
    v_visitor bytea;
begin
    foreach v_visitor in array p_visitor loop
        perform 1 from ledger.state t
          where t.site_id = p_site_id and t.version = p_version and t.visitor = v_visitor for update skip locked;
        if found then
            v_ours := v_ours || true;
        else
            perform 1 from ledger.state t
              where t.site_id = p_site_id and t.version = p_version and t.visitor = v_visitor;
            v_ours := v_ours || case when found then false end;
        end if;
    end loop;
    return v_ours;
end $$;

-- Set when rows are due, of those that are ours and as they were read (at `p_seq`); how many changed.
create function ledger.set_due(
    p_site_id integer, p_version integer, p_ours boolean[], p_visitor bytea[], p_seq bigint[], p_due bigint[]
) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    v_row   record;
    v_count integer := 0;
begin
    for v_row in select * from unnest(p_ours, p_visitor, p_seq, p_due) d(ours, visitor, seq, due_ms) loop
        if v_row.ours then
            update ledger.state t set due_ms = v_row.due_ms
             where t.site_id = p_site_id and t.version = p_version and t.visitor = v_row.visitor and t.seq = v_row.seq
               and t.due_ms is distinct from v_row.due_ms;
            v_count := v_count + found::integer;
        end if;
    end loop;
    return v_count;
end $$;

-- Say when rows are due next. A row that somebody else writes just now is left to them, so nobody ever waits in a
-- circle; it stays due. None is set where a policy beyond `p_policy_seq` was published: looked for once the rows are
-- locked, so that a pass that was begun for it finds them locked, or comes after us.
create function ledger.write_due(
    p_site_id integer, p_version integer, p_policy_seq bigint, p_visitor bytea[], p_seq bigint[], p_due bigint[]
) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_ours boolean[];
begin
    perform set_config('synchronous_commit', 'off', true);
    v_ours := ledger.lock_states(p_site_id, p_version, p_visitor);
    if exists (select 1 from ledger.policy p where p.site_id = p_site_id and p.seq > p_policy_seq) then
        return 0;
    end if;
    return ledger.set_due(p_site_id, p_version, v_ours, p_visitor, p_seq, p_due);
end $$;

-- One step of the pass that follows a published version: the rows after `p_after` (empty: a pass begins) up to `p_next`
-- (null: they were the last). False, and nothing done: another one took this step, a newer version was published, or
-- somebody else is writing one of the rows. Read again.
create function ledger.pass_due(
    p_site_id integer, p_version integer, p_policy_seq bigint, p_after bytea, p_next bytea,
    p_visitor bytea[], p_seq bigint[], p_due bigint[]
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_ours boolean[];
begin
    perform set_config('synchronous_commit', 'off', true);
    v_ours := ledger.lock_states(p_site_id, p_version, p_visitor);
    if false = any (v_ours)
       or exists (select 1 from ledger.policy p where p.site_id = p_site_id and p.seq > p_policy_seq) then
        return false;
    end if;
    update ledger.projection p
       set due_policy = case when p_next is null then p_policy_seq else p.due_policy end,
           due_target = p_policy_seq, due_after = p_next
     where p.site_id = p_site_id and p.version = p_version and p.due_policy < p_policy_seq
       and (p_after = ''::bytea or (p.due_target = p_policy_seq and p.due_after = p_after));
    if not found then
        return false;
    end if;
    perform ledger.set_due(p_site_id, p_version, v_ours, p_visitor, p_seq, p_due);
    return true;
end $$;

-- Append the ledger's own events about visitors, each unless something was recorded under its subject (`p_visitor`) at
-- `p_upto` or after, or a grant that it names was erased: then its outcome is 5, and whoever asked looks again. Of the
-- grants `p_grant` each belongs to the draft `p_of`, counted from 1.
-- So no such event is ever behind an act that it does not know of, nor the only one left of somebody who was forgotten.
-- A draft that is known already is settled as `append_events` settles it. `offset 0` keeps each look-up one by the whole
-- key, for a planner without statistics would read all of `known` for every batch.
create function ledger.append_lapses(
    p_site_id integer, p_process_ms bigint, p_known_size bigint, p_known_leaf bytea, p_signer bytea,
    p_key bytea[], p_commit bytea[], p_signature bytea[], p_sealed bytea[],
    p_visitor bytea[], p_content bytea[], p_actor bytea[], p_upto bigint[], p_grant bigint[], p_of integer[],
    out outcome smallint[], out seq bigint[], out ms bigint, out size bigint, out prev bytea, out tip bytea
) language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_gone integer[];  -- drafts that name a grant that is there no more
    v_kept integer[];
    v_done record;
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    v_gone := array(
        select g.draft from unnest(p_grant, p_of) g(seq, draft)
         where not exists (select 1 from ledger.opening o where o.site_id = p_site_id and o.seq = g.seq offset 0));
    v_kept := array(
        select d.i::integer
          from unnest(p_key, p_visitor, p_upto) with ordinality d(key, visitor, upto, i)
         where exists (select 1 from ledger.known k where k.site_id = p_site_id and k.key = d.key offset 0)
            or (not exists (select 1 from ledger.opening o
                             where o.site_id = p_site_id and o.visitor = d.visitor and o.seq >= d.upto offset 0)
                and not d.i = any (v_gone))
         order by d.i);
    select * into v_done from ledger.append_events(
        p_site_id, p_process_ms, p_known_size, p_known_leaf, p_signer,
        array(select p_key[k] from unnest(v_kept) with ordinality u(k, i) order by u.i),
        array(select p_commit[k] from unnest(v_kept) with ordinality u(k, i) order by u.i),
        array(select p_signature[k] from unnest(v_kept) with ordinality u(k, i) order by u.i),
        array(select p_sealed[k] from unnest(v_kept) with ordinality u(k, i) order by u.i),
        array(select p_visitor[k] from unnest(v_kept) with ordinality u(k, i) order by u.i),
        array(select p_content[k] from unnest(v_kept) with ordinality u(k, i) order by u.i),
        case when p_actor is not null
             then array(select p_actor[k] from unnest(v_kept) with ordinality u(k, i) order by u.i) end);
    outcome := array_fill(5::smallint, array[coalesce(array_length(p_key, 1), 0)]);
    seq := array_fill(null::bigint, array[coalesce(array_length(p_key, 1), 0)]);
    for i in 1 .. coalesce(array_length(v_kept, 1), 0) loop
        outcome[v_kept[i]] := v_done.outcome[i];
        seq[v_kept[i]] := v_done.seq[i];
    end loop;
    ms := v_done.ms;
    size := v_done.size;
    prev := v_done.prev;
    tip := v_done.tip;
end $$;

revoke all on function ledger.lock_states, ledger.set_due, ledger.write_due, ledger.pass_due, ledger.append_lapses
    from public;
grant execute on function ledger.write_due, ledger.pass_due, ledger.append_lapses to ledger_service;
