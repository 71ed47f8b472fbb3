-- The way into the log: lock, guards, known drafts out, time, chain, insert. One round trip, one transaction.
--
-- SQLSTATEs raised here (store/errors.py gives them their classes):
--   LG001 the log is shorter than, or differs from, what the process has seen
--   LG002 the clocks of process and database differ     LG003 the last entry lies ahead of the clock
--   LG004 the signer is not active                      LG005 no such site, or no genesis yet
--   LG006 the draft is against the rules of the log     LG007 the log exists already
--   LG008 the data key that sealed the draft is closed, destroyed or used up
--   LG009 the master secret was replaced (0012)

create function ledger.u64(bytes bytea) returns bigint
language sql immutable strict parallel safe
return ('x' || encode(bytes, 'hex'))::bit(64)::bigint;

create function ledger.leaf_hash(entry bytea) returns bytea
language sql immutable strict parallel safe
return sha256('\x00'::bytea || entry);

create function ledger.entry_ms(entry bytea) returns bigint
language sql immutable strict parallel safe
return ledger.u64(substring(entry from 10 for 8));

create function ledger.entry_kind(entry bytea) returns integer
language sql immutable strict parallel safe
return get_byte(entry, 49);

create function ledger.entry_commit(entry bytea) returns bytea
language sql immutable strict parallel safe
return substring(entry from 51 for 32);

-- int2send overflows at 32,768, so the u16 is cut from an int4.
create function ledger.entry_bytes(
    seq bigint, ms bigint, prev bytea, kind integer, commit bytea, signer bytea, signature bytea, public bytea
) returns bytea
language sql immutable strict parallel safe
return '\x01'::bytea || int8send(seq) || int8send(ms) || prev || substring(int4send(kind) from 4)
       || commit || signer || signature || substring(int4send(octet_length(public)) from 3) || public;

-- L of a core: H(origin) at seq 0, the log id after it.
create function ledger.core_hash(log bytea, kind integer, commit bytea, public bytea) returns bytea
language sql immutable strict parallel safe
return sha256(convert_to(E'consent-ledger/v1 entry\n', 'UTF8') || log || substring(int4send(kind) from 4)
              || commit || substring(int4send(octet_length(public)) from 3) || public);

-- Lock the site to the end of the transaction, refuse what must not be built upon, and give the head and the time.
create function ledger.lock_head(
    p_site_id integer, p_process_ms bigint, p_known_size bigint, p_known_leaf bytea,
    out size bigint, out tip bytea, out ms bigint
) language plpgsql volatile as $$
declare
    v_last bytea;
    v_seen bytea;
    v_skew bigint := (extract(epoch from statement_timestamp()) * 1000)::bigint - p_process_ms;
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    if not found then
        raise exception 'no site %', p_site_id using errcode = 'LG005';
    end if;
    if abs(v_skew) > 5000 then
        raise exception 'the database clock is % ms away from the process clock', v_skew using errcode = 'LG002';
    end if;

    select e.seq + 1, e.entry into size, v_last
      from ledger.entry e where e.site_id = p_site_id order by e.seq desc limit 1;
    size := coalesce(size, 0);
    tip := case when size = 0 then decode(repeat('00', 32), 'hex') else ledger.leaf_hash(v_last) end;

    if p_known_size > size then
        raise exception 'the log holds % entries, but % were seen', size, p_known_size using errcode = 'LG001';
    elsif p_known_size = size then
        v_seen := tip;
    elsif p_known_size > 0 then
        select ledger.leaf_hash(e.entry) into v_seen
          from ledger.entry e where e.site_id = p_site_id and e.seq = p_known_size - 1;
    end if;
    if p_known_size > 0 and v_seen is distinct from p_known_leaf then
        raise exception 'entry % is not the one that was seen', p_known_size - 1 using errcode = 'LG001';
    end if;

    -- One clock a site: this one, read under the lock, never decreasing.
    ms := (extract(epoch from clock_timestamp()) * 1000)::bigint;
    if size > 0 then
        if ledger.entry_ms(v_last) > ms + 60000 then
            raise exception 'the last entry lies % ms ahead of the clock', ledger.entry_ms(v_last) - ms
                using errcode = 'LG003';
        end if;
        ms := greatest(ms, ledger.entry_ms(v_last));
    end if;
end $$;

-- Return when no append is under way: whatever is appended afterwards has a time no earlier than this moment.
create function ledger.settle(p_site_id integer) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform set_config('synchronous_commit', 'off', true);  -- a lock alone is committed: nothing waits for the disk
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
end $$;

-- Append events, all by one signer; keys are distinct within a call. Outcomes, per draft:
--   0 appended   1 known with this commitment   2 known with this content   3 known with other content   4 erased
--   6 forgotten: its subject, or its actor, was erased or is about to be (block, 0013); known or not, nothing is told of it
-- `p_actor` is the other one whom a draft is about: the visitor where its subject is an account, the account of a link; null
-- where there is none (the whole array null: of no draft there is).
-- prev is the tip before, so that the caller can rebuild the bytes and compare tip.
-- A draft is sealed under one of the site's newest two opening keys: older ones are closed, so that they can be destroyed
-- once nothing is left that they sealed. No key seals more than 2^31 entries; retries take the rest of what GCM allows.
create function ledger.append_events(
    p_site_id integer, p_process_ms bigint, p_known_size bigint, p_known_leaf bytea, p_signer bytea,
    p_key bytea[], p_commit bytea[], p_signature bytea[], p_sealed bytea[],
    p_visitor bytea[], p_content bytea[], p_actor bytea[],
    out outcome smallint[], out seq bigint[], out ms bigint, out size bigint, out prev bytea, out tip bytea
) language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_blocked bytea[];
    v_count   integer := coalesce(array_length(p_key, 1), 0);
    v_signs   boolean;
    v_open    bytea[];  -- how sealed bytes may begin; a key is used up by 2^31 entries, twice DATA_KEY_MAX_ENTRIES
    v_entries bytea[] := '{}';
    v_entry   bytea;
    v_known   record;
    v_fresh   integer := 0;
begin
    select h.size, h.tip, h.ms into size, prev, ms
      from ledger.lock_head(p_site_id, p_process_ms, p_known_size, p_known_leaf) h;
    tip := prev;
    select exists (select 1 from ledger.signer s
                    where s.site_id = p_site_id and s.key_hash = p_signer and s.role = 'ingest' and s.until is null),
           array(select '\x01'::bytea || int4send(k.key_no)
                   from (select d.key_no, d.since_seq from ledger.data_key d
                          where d.site_id = p_site_id and d.role = 'opening' order by d.key_no desc limit 2) k
                  where append_events.size - k.since_seq < 2147483648)
      into v_signs, v_open;
    if not v_signs then
        raise exception 'the signer is no active ingest key' using errcode = 'LG004';
    end if;
    if exists (select 1 from unnest(p_sealed) d(sealed) where not substring(d.sealed for 5) = any (v_open)) then
        raise exception 'the data key of a draft is closed or used up' using errcode = 'LG008';
    end if;

    outcome := array_fill(0::smallint, array[v_count]);
    seq := array_fill(null::bigint, array[v_count]);
    for v_known in
        select d.i, k.seq, o.seq is null as gone, ledger.entry_commit(e.entry) = p_commit[d.i] as mine,
               o.content = p_content[d.i] as same
          from unnest(p_key) with ordinality d(key, i)
          -- `offset 0` keeps each look-up one by the whole key: joined, a planner without statistics reads all of
          -- `known` for every batch.
         cross join lateral (
              select s.seq from ledger.known s where s.site_id = p_site_id and s.key = d.key offset 0
         ) k
         cross join lateral (
              select s.entry from ledger.entry s where s.site_id = p_site_id and s.seq = k.seq offset 0
         ) e
          left join lateral (
              select s.seq, s.content from ledger.opening s where s.site_id = p_site_id and s.seq = k.seq offset 0
          ) o on true
    loop
        outcome[v_known.i] := case when v_known.gone then 4 when v_known.mine then 1 when v_known.same then 2 else 3 end;
        seq[v_known.i] := v_known.seq;
    end loop;

    v_blocked := array(select b.subject from ledger.block b
                        where b.site_id = p_site_id and b.subject = any (p_visitor || p_actor) and b.state <> 'restricted'
                          and (b.until_ms is null or b.until_ms > append_events.ms));
    if v_blocked <> '{}' then
        for i in 1 .. v_count loop
            if p_visitor[i] = any (v_blocked) or p_actor[i] = any (v_blocked) then
                outcome[i] := 6;
                seq[i] := null;
            end if;
        end loop;
    end if;

    for i in 1 .. v_count loop
        continue when outcome[i] <> 0;
        v_entry := ledger.entry_bytes(size, ms, tip, 1, p_commit[i], p_signer, p_signature[i], ''::bytea);
        v_fresh := v_fresh + 1;
        v_entries[v_fresh] := v_entry;
        tip := ledger.leaf_hash(v_entry);
        seq[i] := size;
        size := size + 1;
    end loop;

    if v_fresh > 0 then
        insert into ledger.entry (site_id, seq, entry)
            select p_site_id, append_events.size - v_fresh + n.i - 1, n.entry from unnest(v_entries) with ordinality n(entry, i);
        insert into ledger.known (site_id, key, seq)
            select p_site_id, d.key, d.seq from unnest(p_key, append_events.seq, outcome) d(key, seq, outcome) where d.outcome = 0;
        insert into ledger.opening (site_id, seq, sealed, visitor, content)
            select p_site_id, d.seq, d.sealed, d.visitor, d.content
              from unnest(append_events.seq, p_sealed, p_visitor, p_content, outcome)
                   d(seq, sealed, visitor, content, outcome)
             where d.outcome = 0;
        if p_actor is not null then
            insert into ledger.related (site_id, subject, other)
                select p_site_id, w.subject, w.other
                  from unnest(p_visitor, p_actor, outcome) d(visitor, actor, outcome)
                 cross join lateral (values (d.visitor, d.actor), (d.actor, d.visitor)) w(subject, other)
                 where d.outcome = 0 and d.actor is not null
                on conflict do nothing;
        end if;
    end if;
end $$;

-- What an entry of kind 2, 3 or 4 at `p_seq` means for the other tables. Of an erasure: how many openings went; a visitor
-- of whom events are left is folded again.
create function ledger.apply_control(p_site_id integer, p_seq bigint, p_kind integer, p_public bytea) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    v_seqs     bigint[];
    v_visitors bytea[];
    v_count    integer := 0;
begin
    if p_kind = 2 then
        perform ledger.check_key_operation(p_site_id, p_public);  -- 0009
        insert into ledger.key_entry (site_id, seq) values (p_site_id, p_seq);
        if get_byte(p_public, 0) = 1 then
            insert into ledger.signer (site_id, key_hash, role, public, since)
                values (p_site_id, sha256(substring(p_public from 2 for 32)), 'ingest', substring(p_public from 2 for 32), p_seq);
        elsif get_byte(p_public, 0) = 2 then
            update ledger.signer s set until = p_seq
             where s.site_id = p_site_id and s.key_hash = substring(p_public from 2) and s.role = 'ingest' and s.until is null;
            if not found then
                raise exception 'a retirement names no active ingest key' using errcode = 'LG006';
            end if;
        end if;
    elsif p_kind = 3 then
        select array_agg(ledger.u64(substring(p_public from g.i for 8)) order by g.i) into v_seqs
          from generate_series(1, octet_length(p_public), 8) g(i);
        -- The trigger on `opening` lets a row go only when it finds it here; a second erasure of one event fails here.
        insert into ledger.erased (site_id, seq, by_seq) select p_site_id, u, p_seq from unnest(v_seqs) u;
        v_visitors := array(select distinct o.visitor from ledger.opening o
                             where o.site_id = p_site_id and o.seq = any (v_seqs) and o.visitor is not null);
        delete from ledger.opening o where o.site_id = p_site_id and o.seq = any (v_seqs) and o.visitor is not null;
        get diagnostics v_count = row_count;
        with gone as (
            delete from ledger.state t where t.site_id = p_site_id and t.visitor = any (v_visitors)
            returning t.version, t.visitor
        )
        insert into ledger.unfolded (site_id, version, visitor)
            select p_site_id, g.version, g.visitor from gone g on conflict do nothing;
        delete from ledger.unfolded u
         where u.site_id = p_site_id and u.visitor = any (v_visitors)
           and not exists (select 1 from ledger.opening o where o.site_id = p_site_id and o.visitor = u.visitor);
        -- Two of whom nothing is left had nothing to do with each other that anybody has to know.
        with gone as (
            select t.subject, t.other from ledger.related t
             where t.site_id = p_site_id and t.subject = any (v_visitors)
               and not exists (select 1 from ledger.opening o where o.site_id = p_site_id and o.visitor = t.subject)
               and not exists (select 1 from ledger.opening o where o.site_id = p_site_id and o.visitor = t.other)
        ), both_ways as (
            select g.subject, g.other from gone g union select g.other, g.subject from gone g
        )
        delete from ledger.related t using both_ways b
         where t.site_id = p_site_id and t.subject = b.subject and t.other = b.other;
    elsif p_kind = 4 then
        insert into ledger.policy (site_id, version, seq, document)
            values (p_site_id, convert_from(substring(p_public from 33), 'UTF8'), p_seq, substring(p_public from 1 for 32));
    end if;
    return v_count;
end $$;

-- Append one entry of another kind than event. Known by H(core): then its seq comes back and nothing is written.
create function ledger.append_one(
    p_site_id integer, p_process_ms bigint, p_known_size bigint, p_known_leaf bytea, p_signer bytea,
    p_kind integer, p_commit bytea, p_signature bytea, p_public bytea, p_sealed bytea,
    out outcome smallint, out seq bigint, out ms bigint, out size bigint, out prev bytea, out tip bytea
) language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_log   bytea;
    v_core  bytea;
    v_entry bytea;
    v_count integer;
begin
    select h.size, h.tip, h.ms into size, prev, ms
      from ledger.lock_head(p_site_id, p_process_ms, p_known_size, p_known_leaf) h;
    tip := prev;
    if p_kind = 0 then
        select sha256(convert_to(s.origin, 'UTF8')) into v_log from ledger.site s where s.site_id = p_site_id;
    else
        select ledger.leaf_hash(e.entry) into v_log from ledger.entry e where e.site_id = p_site_id and e.seq = 0;
        if v_log is null then
            raise exception 'the log has no genesis entry' using errcode = 'LG005';
        end if;
    end if;
    v_core := ledger.core_hash(v_log, p_kind, p_commit, p_public);
    select 1, k.seq into outcome, seq from ledger.known k where k.site_id = p_site_id and k.key = v_core;
    if found then
        return;
    end if;

    outcome := 0;
    seq := size;
    if p_kind = 0 then
        if size > 0 then
            raise exception 'the log has a genesis entry already' using errcode = 'LG007';
        end if;
        insert into ledger.signer (site_id, key_hash, role, public, since)
            select p_site_id, sha256(k.public), k.role, k.public, 0
              from (select decode(split_part(convert_from(p_public, 'UTF8'), E'\n', 2), 'base64') as public, 'ingest' as role
                    union all
                    select decode(split_part(convert_from(p_public, 'UTF8'), E'\n', 3), 'base64'), 'root') k;
        insert into ledger.projection (site_id, version, position, live) values (p_site_id, 1, 0, true);
    end if;
    if not exists (select 1 from ledger.signer s
                    where s.site_id = p_site_id and s.key_hash = p_signer and s.until is null
                      and s.role = case when p_kind in (0, 2) then 'root' else 'ingest' end) then
        raise exception 'the signer may not sign an entry of kind %', p_kind using errcode = 'LG004';
    end if;

    v_count := ledger.apply_control(p_site_id, size, p_kind, p_public);
    if p_kind = 3 and v_count <> (octet_length(p_public) + 7) / 8 then
        raise exception 'an erasure names something else than living events' using errcode = 'LG006';
    end if;

    v_entry := ledger.entry_bytes(size, ms, prev, p_kind, p_commit, p_signer, p_signature, p_public);
    insert into ledger.entry (site_id, seq, entry) values (p_site_id, size, v_entry);
    insert into ledger.known (site_id, key, seq) values (p_site_id, v_core, size);
    if p_kind = 3 then
        -- Under the key that is there for ever, for a record is never erased.
        if not exists (select 1 from ledger.data_key d
                        where d.site_id = p_site_id and d.role = 'register'
                          and substring(p_sealed for 5) = '\x01'::bytea || int4send(d.key_no)) then
            raise exception 'a record is not sealed under the register key' using errcode = 'LG008';
        end if;
        insert into ledger.opening (site_id, seq, sealed) values (p_site_id, size, p_sealed);
    end if;
    tip := ledger.leaf_hash(v_entry);
    size := size + 1;
end $$;
