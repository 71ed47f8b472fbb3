-- Keys that come and go: where the key entries are, and no operation in the log that would break it for ever.
--
-- What a key may do is known from the entries, and from nothing else; `key_entry` only spares reading all of them.
-- An operation that audit rule 8 forbids is refused here, under the lock, for once it is in the log no audit passes.
-- Proofs of possession and curve points were checked by the caller: Postgres cannot.

create table ledger.key_entry (
    site_id integer not null,
    seq     bigint  not null,
    primary key (site_id, seq)
);

create trigger append_only before update or delete on ledger.key_entry for each row execute function ledger.refuse();
create trigger no_truncate before truncate on ledger.key_entry for each statement execute function ledger.refuse();
alter table ledger.key_entry enable always trigger append_only;
alter table ledger.key_entry enable always trigger no_truncate;
grant select on ledger.key_entry to ledger_service;

create function ledger.vkey_public(vkey text) returns bytea
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select substring(decode(regexp_replace(vkey, '^[^+]*[+][^+]*[+]', ''), 'base64') from 2);
$$;

-- Every log key so far of one site, retired ones too.
create function ledger.log_keys(p_site_id integer, out vkey_hash bytea, out public bytea, out active boolean)
returns setof record language sql stable set search_path = pg_catalog, pg_temp as $$
    with operation as (
        select substring(e.entry from 181) as public
          from ledger.key_entry k join ledger.entry e on e.site_id = k.site_id and e.seq = k.seq
         where k.site_id = p_site_id
    ), introduced as (
        select split_part(convert_from(substring(e.entry from 181), 'UTF8'), E'\n', 1) as vkey
          from ledger.entry e where e.site_id = p_site_id and e.seq = 0
        union all
        select convert_from(substring(o.public from 2), 'UTF8') from operation o where get_byte(o.public, 0) = 3
    ), hashed as (
        select sha256(convert_to(i.vkey, 'UTF8')) as vkey_hash, ledger.vkey_public(i.vkey) as public from introduced i
    )
    select h.vkey_hash, h.public, not exists (select 1 from operation o
                                               where get_byte(o.public, 0) = 4 and substring(o.public from 2) = h.vkey_hash)
      from hashed h;
$$;

-- Refuse an operation that may not be in the log (audit rules 5 and 8).
create function ledger.check_key_operation(p_site_id integer, p_public bytea) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    v_operation integer := get_byte(p_public, 0);
    v_argument  bytea := substring(p_public from 2);
    v_key       bytea;
begin
    if v_operation in (1, 3) then
        if v_operation = 1 and octet_length(v_argument) <> 96 then
            raise exception 'an introduction holds a key and its proof of possession' using errcode = 'LG006';
        elsif v_operation = 3 and split_part(convert_from(v_argument, 'UTF8'), '+', 1)
                is distinct from (select s.origin from ledger.site s where s.site_id = p_site_id) then
            raise exception 'the vkey carries another name than the log' using errcode = 'LG006';
        end if;
        v_key := case v_operation when 1 then substring(v_argument from 1 for 32)
                                  else ledger.vkey_public(convert_from(v_argument, 'UTF8')) end;
        if exists (select 1 from ledger.signer s where s.public = v_key)
            or exists (select 1 from ledger.site s cross join lateral ledger.log_keys(s.site_id) k where k.public = v_key) then
            raise exception 'the key is known already, in this or another role or log' using errcode = 'LG006';
        end if;
    elsif v_operation = 4 then
        if not exists (select 1 from ledger.log_keys(p_site_id) k where k.vkey_hash = v_argument and k.active) then
            raise exception 'a retirement names no active log key' using errcode = 'LG006';
        end if;
    elsif v_operation <> 2 then  -- which is checked where it is carried out
        raise exception 'there is no key operation %', v_operation using errcode = 'LG006';
    end if;
end $$;

revoke all on function ledger.vkey_public, ledger.log_keys, ledger.check_key_operation from public;
grant execute on function ledger.vkey_public, ledger.log_keys to ledger_service;  -- for who looks, like `doctor`
