-- Cookies: which names were seen on a site's pages, and who looked through the inventory when (beside the log).
--
-- Names only, never values, and no visitor: a row says on how many days a name was seen, not by how many people.
-- What was seen may be forgotten; that somebody reviewed it may not.

create table ledger.observed_cookie (
    -- `name` as it was declared, or folded: what looks like an identifier in it is a `*` (core/cookies).
    site_id    integer not null,
    storage    text    not null check (storage in ('cookie', 'localStorage', 'sessionStorage', 'indexedDB', 'pixel')),
    name       text    not null check (octet_length(name) between 1 and 128),
    first_seen date    not null,
    last_seen  date    not null,
    days       integer not null,
    primary key (site_id, storage, name)
);

create table ledger.cookie_review (
    -- Who (a role, no person's name is needed) went through which inventory, under which version of the policy.
    site_id     integer     not null,
    n           integer     not null,
    reviewed_at timestamptz not null,
    reviewer    text        not null check (octet_length(reviewer) between 1 and 256),
    version     text        not null,
    inventory   bytea       not null check (octet_length(inventory) = 32),
    declared    integer     not null,
    undeclared  integer     not null,
    primary key (site_id, n)
);

create trigger append_only before update or delete on ledger.cookie_review
    for each row execute function ledger.refuse();
create trigger no_truncate before truncate on ledger.cookie_review
    for each statement execute function ledger.refuse();
alter table ledger.cookie_review enable always trigger append_only;
alter table ledger.cookie_review enable always trigger no_truncate;

-- Note names as seen today. Of new ones as many as fit under `p_max_names` of the site; how many did not.
create function ledger.observe_cookies(p_site_id integer, p_storage text, p_names text[], p_max_names integer)
returns integer language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_today   date := (now() at time zone 'UTC')::date;
    v_new     text[];
    v_room    integer;
begin
    perform 1 from ledger.observed_cookie o  -- in one order, so that two calls do not wait for each other
      where o.site_id = p_site_id and o.storage = p_storage and o.name = any (p_names) and o.last_seen < v_today
      order by o.name for update;
    update ledger.observed_cookie o set last_seen = v_today, days = o.days + 1
     where o.site_id = p_site_id and o.storage = p_storage and o.name = any (p_names) and o.last_seen < v_today;
    select array_agg(distinct n.name) into v_new from unnest(p_names) n(name)
     where not exists (select 1 from ledger.observed_cookie o
                        where o.site_id = p_site_id and o.storage = p_storage and o.name = n.name);
    if v_new is null then
        return 0;
    end if;
    -- One at a time, so that the bound holds; the site's row is left alone, for appends wait for that.
    perform pg_advisory_xact_lock(1668246635, p_site_id);  -- "cook"
    v_room := greatest(0, p_max_names - (select count(*) from ledger.observed_cookie o where o.site_id = p_site_id));
    insert into ledger.observed_cookie (site_id, storage, name, first_seen, last_seen, days)
        select p_site_id, p_storage, n.name, v_today, v_today, 1
          from unnest(v_new) with ordinality n(name, place) where n.place <= v_room
        on conflict do nothing;
    return greatest(0, cardinality(v_new) - v_room);
end $$;

-- Forget names: those given, or, with null, those not seen since a day. How many went.
create function ledger.forget_cookies(p_site_id integer, p_names text[], p_not_since date) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count integer;
begin
    delete from ledger.observed_cookie o
     where o.site_id = p_site_id and (o.name = any (p_names) or (p_names is null and o.last_seen < p_not_since));
    get diagnostics v_count = row_count;
    return v_count;
end $$;

-- Record a review. The same one again on the same day is the one of before.
create function ledger.review_cookies(
    p_site_id integer, p_reviewer text, p_version text, p_inventory bytea, p_declared integer, p_undeclared integer,
    out n integer, out reviewed_ms bigint, out replayed boolean
) language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_last ledger.cookie_review;
begin
    perform pg_advisory_xact_lock(1668246635, p_site_id);
    select * into v_last from ledger.cookie_review r where r.site_id = p_site_id order by r.n desc limit 1;
    replayed := coalesce(
        v_last.reviewer = p_reviewer and v_last.version = p_version and v_last.inventory = p_inventory
        and (v_last.reviewed_at at time zone 'UTC')::date = (clock_timestamp() at time zone 'UTC')::date, false);
    if not replayed then
        insert into ledger.cookie_review as r
            (site_id, n, reviewed_at, reviewer, version, inventory, declared, undeclared)
            values (p_site_id, coalesce(v_last.n, 0) + 1, date_trunc('milliseconds', clock_timestamp()), p_reviewer,
                    p_version, p_inventory, p_declared, p_undeclared)
            returning * into v_last;
    end if;
    n := v_last.n;
    reviewed_ms := (extract(epoch from v_last.reviewed_at) * 1000)::bigint;
end $$;

revoke all on function ledger.observe_cookies, ledger.forget_cookies, ledger.review_cookies from public;
grant execute on function ledger.observe_cookies, ledger.forget_cookies, ledger.review_cookies to ledger_service;
grant select on ledger.observed_cookie, ledger.cookie_review to ledger_service;
