-- Download links that work once, and consumers that confirm erasures (both beside the log).

create table ledger.download (
    -- `sealed` says what is downloaded; only the token opens it, and of the token its hash alone is here (downloads.py).
    token_hash bytea       primary key check (octet_length(token_hash) = 32),
    site_id    integer     not null,
    sealed     bytea       not null check (octet_length(sealed) <= 4096),
    expires_at timestamptz not null,
    spent      boolean     not null default false
);

-- A new link. When it expires (unix ms); null where a site has as many as are allowed.
create function ledger.put_download(
    p_token_hash bytea, p_site_id integer, p_sealed bytea, p_seconds double precision, p_max integer
) returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_expires timestamptz := date_trunc('milliseconds', clock_timestamp() + make_interval(secs => p_seconds));
begin
    delete from ledger.download d where d.expires_at <= clock_timestamp();
    if (select count(*) from ledger.download d where d.site_id = p_site_id) >= p_max then
        return null;
    end if;
    insert into ledger.download (token_hash, site_id, sealed, expires_at)
        values (p_token_hash, p_site_id, p_sealed, v_expires);
    return (extract(epoch from v_expires) * 1000)::bigint;
end $$;

-- Of all who bring a token one gets its row, once: who waited for the other's update finds it spent.
create function ledger.spend_download(p_token_hash bytea) returns bytea
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update ledger.download d set spent = true
     where d.token_hash = p_token_hash and not d.spent and d.expires_at > clock_timestamp()
    returning d.sealed;
$$;

-- Forget what has expired; how many went.
create function ledger.sweep_downloads() returns bigint
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    with gone as (delete from ledger.download d where d.expires_at <= clock_timestamp() returning 1)
    select count(*) from gone;
$$;

revoke all on function ledger.put_download, ledger.spend_download, ledger.sweep_downloads from public;
grant execute on function ledger.put_download, ledger.spend_download, ledger.sweep_downloads to ledger_service;

create table ledger.consumer (
    -- Who keeps copies of what was published, and up to which entry it has said that erasures are applied there.
    site_id      integer     not null,
    name         text        not null check (octet_length(name) between 1 and 64),
    key_hash     bytea       not null,  -- of the API key that confirms for it
    position     bigint      not null,
    added_at     timestamptz not null default now(),
    confirmed_at timestamptz,
    primary key (site_id, name)
);

-- A new consumer, with an API key of its own. It begins at the log's head: what is erased by then it never got. False
-- where the name is taken.
create function ledger.add_consumer(p_site_id integer, p_name text, p_key_hash bytea) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into ledger.consumer (site_id, name, key_hash, position)
        values (p_site_id, p_name, p_key_hash,
                (select max(e.seq) from ledger.entry e where e.site_id = p_site_id))
        on conflict do nothing;
    if found then
        insert into ledger.api_key (key_hash, site_id, class, scopes, label)
            values (p_key_hash, p_site_id, 'secret', '{check}', 'consumer ' || p_name);
        return true;
    end if;
    return false;
end $$;

-- It is gone, and its key revoked. False where there is none of that name.
create function ledger.remove_consumer(p_site_id integer, p_name text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_key_hash bytea;
begin
    delete from ledger.consumer c where c.site_id = p_site_id and c.name = p_name returning c.key_hash into v_key_hash;
    update ledger.api_key k set revoked_at = now() where k.key_hash = v_key_hash and k.revoked_at is null;
    return v_key_hash is not null;
end $$;

-- A consumer's word that every erasure up to a position is applied. A position never goes back. No row where it is
-- another's key; the log's last entry bounds what can be confirmed.
create function ledger.confirm_erasures(p_site_id integer, p_name text, p_key_hash bytea, p_position bigint)
returns table (seq bigint, confirmed_ms bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update ledger.consumer c
       set position = greatest(c.position, p_position), confirmed_at = date_trunc('milliseconds', clock_timestamp())
     where c.site_id = p_site_id and c.name = p_name and c.key_hash = p_key_hash
       and p_position <= (select max(e.seq) from ledger.entry e where e.site_id = p_site_id)
    returning c.position, (extract(epoch from c.confirmed_at) * 1000)::bigint;
$$;

revoke all on function ledger.add_consumer, ledger.remove_consumer, ledger.confirm_erasures from public;
grant execute on function ledger.add_consumer, ledger.remove_consumer, ledger.confirm_erasures to ledger_service;
grant select on ledger.consumer to ledger_service;
