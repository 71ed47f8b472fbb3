-- The administrative log of a site: a log of its own beside the site's, in the same tables, by the same functions.
--
-- It is found by its name, `<site>.admin-log`, and by `admin_of`. Nobody decides by it, so it has no projection.

create function ledger.refuse_admin_name() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if (new.site like '%.admin-log') <> (new.admin_of is not null) then
        raise exception 'the name % is that of an administrative log', new.site
            using errcode = 'LG006', hint = 'Give the site another name: those that end in .admin-log are taken.';
    end if;
    return new;
end $$;
create trigger admin_name before insert on ledger.site for each row execute function ledger.refuse_admin_name();
alter table ledger.site enable always trigger admin_name;

-- The row of a site's administrative log, made once; its origin is the site's with the same ending.
create function ledger.create_admin_log(p_site_id integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_site_id integer;
begin
    insert into ledger.site (site, origin, admin_of)
        select s.site || '.admin-log', s.origin || '.admin-log', s.site_id
          from ledger.site s where s.site_id = p_site_id and s.admin_of is null
        on conflict do nothing returning site_id into v_site_id;
    if v_site_id is null then
        select s.site_id into v_site_id from ledger.site s where s.admin_of = p_site_id;
    end if;
    return v_site_id;
end $$;

create function ledger.without_projection() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    return case when (select s.admin_of is null from ledger.site s where s.site_id = new.site_id) then new end;
end $$;
create trigger without_projection before insert on ledger.projection
    for each row execute function ledger.without_projection();
alter table ledger.projection enable always trigger without_projection;

revoke all on function ledger.refuse_admin_name, ledger.create_admin_log, ledger.without_projection from public;
grant execute on function ledger.create_admin_log to ledger_service;
