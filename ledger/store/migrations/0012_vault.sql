-- The data keys of sites: made by processes that know the master secret, kept here wrapped under it.
--
-- Roles: `opening` seals openings, one a period, the newest usable one at a time; `lookup` keys the hashes by which
-- rows are looked up, one a site, for ever; `register` seals whatever else is sealed, one a site; `hold` seals one
-- proof that is held back from an erasure.

-- Keep a new key under the number that its wrapping is bound to. False: the number is taken, or the site has the one
-- key of that role already; whoever wanted it reads again.
create function ledger.add_data_key(
    p_site_id integer, p_key_no integer, p_role text, p_master_version integer, p_wrapped bytea
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    if not found then
        raise exception 'no site %', p_site_id using errcode = 'LG005';
    end if;
    if octet_length(p_wrapped) is distinct from 61 then
        raise exception 'a wrapped key has 61 bytes' using errcode = 'LG006';
    end if;
    lock table ledger.data_key in row exclusive mode;  -- a change of the master secret is over, or comes after us
    if p_master_version < (select max(k.master_version) from ledger.data_key k) then
        raise exception 'version % of the master secret was replaced', p_master_version using errcode = 'LG009';
    end if;
    if p_key_no <> coalesce((select max(k.key_no) from ledger.data_key k where k.site_id = p_site_id), 0) + 1
       or (p_role in ('lookup', 'register')
           and exists (select 1 from ledger.data_key k where k.site_id = p_site_id and k.role = p_role)) then
        return false;
    end if;
    insert into ledger.data_key (site_id, key_no, role, master_version, wrapped, since_seq)
        values (p_site_id, p_key_no, p_role, p_master_version, p_wrapped,
                coalesce((select max(e.seq) + 1 from ledger.entry e where e.site_id = p_site_id), 0));
    return true;
end $$;

-- Destroy a key: whatever it sealed can be opened no more, here and in every older copy of the rows. False: it is still
-- needed. Of opening keys the newest two are, for drafts may be on their way that they sealed; others as long as an
-- opening is left that they sealed. (Which is looked for among the openings of the time in which the key was in use.)
create function ledger.destroy_data_key(p_site_id integer, p_key_no integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_key  record;
    v_next bigint;
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    select k.role, k.since_seq, k.wrapped is null as destroyed into v_key
      from ledger.data_key k where k.site_id = p_site_id and k.key_no = p_key_no;
    if not found or v_key.destroyed or v_key.role <> 'opening' then
        return false;
    end if;
    -- The key after the next one: when that was made, this one was closed.
    select k.since_seq into v_next from ledger.data_key k
     where k.site_id = p_site_id and k.role = 'opening' and k.key_no > p_key_no order by k.key_no offset 1 limit 1;
    if not found or exists (
        select 1 from ledger.opening o
         where o.site_id = p_site_id and o.seq >= v_key.since_seq and o.seq < v_next
           and substring(o.sealed from 2 for 4) = int4send(p_key_no)) then
        return false;
    end if;
    update ledger.data_key k set wrapped = null, destroyed_at = now()
     where k.site_id = p_site_id and k.key_no = p_key_no;
    return true;
end $$;

-- Wrap every living key of every site under another master secret: all of them, or none where one was made meanwhile.
-- For `key rotate-master` alone: who may write here may also destroy, so the service may not.
create function ledger.rewrap_data_keys(
    p_master_version integer, p_site_id integer[], p_key_no integer[], p_wrapped bytea[]
) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    v_count integer;
begin
    lock table ledger.data_key in share row exclusive mode;
    if exists (select 1 from ledger.data_key k where k.master_version > p_master_version) then
        raise exception 'the data keys are wrapped under a newer master secret already' using errcode = 'LG009';
    end if;
    update ledger.data_key k set wrapped = d.wrapped, master_version = p_master_version
      from unnest(p_site_id, p_key_no, p_wrapped) d(site_id, key_no, wrapped)
     where k.site_id = d.site_id and k.key_no = d.key_no and k.wrapped is not null
       and k.master_version < p_master_version and octet_length(d.wrapped) = 61;
    get diagnostics v_count = row_count;
    if exists (select 1 from ledger.data_key k where k.wrapped is not null and k.master_version < p_master_version) then
        raise exception 'a data key was made meanwhile' using errcode = '40001';
    end if;
    return v_count > 0;
end $$;

revoke all on function ledger.add_data_key, ledger.destroy_data_key, ledger.rewrap_data_keys from public;
grant execute on function ledger.add_data_key, ledger.destroy_data_key to ledger_service;
grant select on ledger.data_key to ledger_service;
