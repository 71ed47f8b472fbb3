-- What the service may write beside the log: sites, documents and keys to the API.

create function ledger.create_site(p_site text, p_origin text) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_site_id integer;
begin
    insert into ledger.site (site, origin) values (p_site, p_origin) on conflict do nothing returning site_id into v_site_id;
    if v_site_id is null then
        select s.site_id into v_site_id from ledger.site s where s.site = p_site and s.origin = p_origin;
    end if;
    return v_site_id;  -- null: the site or the origin is taken by another
end $$;

create function ledger.put_document(p_media_type text, p_body bytea) returns bytea
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    insert into ledger.document (hash, media_type, body) values (sha256(p_body), p_media_type, p_body)
        on conflict (hash) do nothing;
    select sha256(p_body);
$$;

create function ledger.create_api_key(p_key_hash bytea, p_site_id integer, p_class text, p_scopes text[], p_label text)
returns void language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    insert into ledger.api_key (key_hash, site_id, class, scopes, label)
        values (p_key_hash, p_site_id, p_class, p_scopes, p_label);
$$;

create function ledger.revoke_api_key(p_key_hash bytea) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update ledger.api_key k set revoked_at = now() where k.key_hash = p_key_hash and k.revoked_at is null;
    return found;
end $$;

do $$
declare
    v_function regprocedure;
begin
    for v_function in select p.oid::regprocedure from pg_proc p where p.pronamespace = 'ledger'::regnamespace loop
        execute format('revoke all on function %s from public', v_function);
        execute format('grant execute on function %s to ledger_service', v_function);
    end loop;
    -- Called by triggers and functions of the owner alone.
    revoke execute on function ledger.lock_head, ledger.apply_control, ledger.refuse, ledger.refuse_unless_erased
        from ledger_service;
    grant usage on schema ledger to ledger_service;
    grant select on all tables in schema ledger to ledger_service;
end $$;
