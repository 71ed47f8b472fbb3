-- Writing the visitor state: one call, one transaction, the site locked so that an erasure is never overwritten.

-- False: something was erased after the rows were read (at `p_read_size`), a policy was published beyond the one that
-- `p_due` is computed with, or another projector moved on. Read again.
create function ledger.write_state(
    p_site_id integer, p_version integer, p_position bigint, p_next bigint, p_read_size bigint, p_policy_seq bigint,
    p_visitor bytea[], p_seq bigint[], p_body bytea[], p_due bigint[], p_told bytea[]
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- The state is no truth, and its position goes with it: no append waits for its way to the disk.
    perform set_config('synchronous_commit', 'off', true);
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    if exists (select 1 from ledger.erased e where e.site_id = p_site_id and e.by_seq >= p_read_size)
       or exists (select 1 from ledger.policy p where p.site_id = p_site_id and p.seq > p_policy_seq) then
        return false;
    end if;
    update ledger.projection p set position = p_next
     where p.site_id = p_site_id and p.version = p_version and p.position = p_position;
    if not found then
        return false;
    end if;
    insert into ledger.state as t (site_id, version, visitor, seq, body, due_ms, told)
        select p_site_id, p_version, d.visitor, d.seq, d.body, d.due_ms, d.told
          from unnest(p_visitor, p_seq, p_body, p_due, p_told) d(visitor, seq, body, due_ms, told)
        on conflict (site_id, version, visitor) do update
           set seq = excluded.seq, body = excluded.body, due_ms = excluded.due_ms, told = excluded.told;
    delete from ledger.unfolded u
     where u.site_id = p_site_id and u.version = p_version and u.visitor = any (p_visitor);
    return true;
end $$;

-- Begin a version beside the living one. An unfinished rebuild loses its version, and with it the right to write; the
-- number is a new one, so that it cannot take this one for its own. Its rows will take every policy that there is into
-- account: `write_state` sees to it.
create function ledger.begin_projection(p_site_id integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_version integer;
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    select max(p.version) + 1 into v_version from ledger.projection p where p.site_id = p_site_id;
    delete from ledger.projection p where p.site_id = p_site_id and not p.live;
    insert into ledger.projection (site_id, version, position, live, due_policy)
        select p_site_id, v_version, 0, false, coalesce(max(p.seq), -1) from ledger.policy p where p.site_id = p_site_id;
    return v_version;
end $$;

-- Make a version the living one; who was to be folded again in the version that goes is so no more. False: another
-- rebuild was begun meanwhile.
create function ledger.flip_projection(p_site_id integer, p_version integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    if not exists (select 1 from ledger.projection p where p.site_id = p_site_id and p.version = p_version) then
        return false;
    end if;
    delete from ledger.projection p where p.site_id = p_site_id and p.version <> p_version;
    delete from ledger.unfolded u where u.site_id = p_site_id and u.version <> p_version;
    update ledger.projection p set live = true where p.site_id = p_site_id and p.version = p_version;
    return true;
end $$;

-- Throw away rows of versions that are no more, so many at once and without the lock; how many went.
create function ledger.sweep_states(p_site_id integer, p_limit integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count integer;
begin
    delete from ledger.state t where t.ctid = any (array(
        select s.ctid from ledger.state s
         where s.site_id = p_site_id
           and not exists (select 1 from ledger.projection p where p.site_id = s.site_id and p.version = s.version)
         limit p_limit));
    get diagnostics v_count = row_count;
    return v_count;
end $$;
