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
