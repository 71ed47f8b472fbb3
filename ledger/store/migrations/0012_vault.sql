-- The data keys of sites: made by processes that know the master secret, kept here wrapped under it.
--
-- Roles: `opening` seals openings, one a period, the newest usable one at a time; `lookup` keys the hashes by which rows
-- are looked up, one a site, for ever; `register` seals whatever else is sealed, one a site; `hold` seals one proof that
-- is held back from an erasure.

-- Keep a new key under the number that its wrapping is bound to. False: the number is taken, or the site has the one key of
-- that role already; whoever wanted it reads again.
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

revoke all on function ledger.add_data_key from public;
grant execute on function ledger.add_data_key to ledger_service;
grant select on ledger.data_key to ledger_service;
