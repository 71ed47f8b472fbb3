-- A full tile's own root is one hash of the tile above it. Kept beside the tile, it makes a partial tile of a higher
-- level a matter of reading up to 255 short rows instead of 255 tiles.

create function ledger.tile_root(p_hashes bytea) returns bytea
language plpgsql immutable strict set search_path = pg_catalog, pg_temp as $$
declare
    v_row bytea := p_hashes;
begin
    while octet_length(v_row) > 32 loop
        select string_agg(sha256('\x01'::bytea || substring(v_row from i * 64 + 1 for 64)), ''::bytea order by i)
          into v_row from generate_series(0, octet_length(v_row) / 64 - 1) i;
    end loop;
    return v_row;
end $$;

alter table ledger.tile add column root bytea not null generated always as (ledger.tile_root(hashes)) stored;
revoke all on function ledger.tile_root from public;
