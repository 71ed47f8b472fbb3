-- Putting back what an older copy of the database lacks: entries with the times they had, taken from the stream.
--
-- For `consent-ledger recover` alone. It runs with its caller's rights and only the ledger's owner may execute it, so
-- the service, which may not write `entry`, has no use for it. Signatures and openings were verified by the caller;
-- what the database can tell (position, chain, time, active signer, nothing twice) is checked here again.

-- All of them or none, right behind the head that the caller saw. Of an event that was erased `p_sealed` is null,
-- and the key too where nobody knows its id any more.
create function ledger.recover_entries(
    p_site_id integer, p_size bigint, p_tip bytea,
    p_entry bytea[], p_key bytea[], p_sealed bytea[], p_visitor bytea[], p_content bytea[],
    p_actor bytea[] default null
) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    v_log    bytea;
    v_last   bytea;
    v_entry  bytea;
    v_public bytea;
    v_kind   integer;
    v_seq    bigint;
begin
    perform 1 from ledger.site s where s.site_id = p_site_id for no key update;
    if not found then
        raise exception 'no site %', p_site_id using errcode = 'LG005';
    end if;
    select ledger.leaf_hash(e.entry) into v_log from ledger.entry e where e.site_id = p_site_id and e.seq = 0;
    select e.seq + 1, e.entry into v_seq, v_last
      from ledger.entry e where e.site_id = p_site_id order by e.seq desc limit 1;
    if v_seq is distinct from p_size or ledger.leaf_hash(v_last) <> p_tip then
        raise exception 'the log has changed meanwhile: it holds % entries', v_seq using errcode = 'LG001';
    end if;

    -- Keys that were made beyond this copy of the log seal what is put back.
    update ledger.data_key k set since_seq = p_size where k.site_id = p_site_id and k.since_seq > p_size;
    for i in 1 .. coalesce(array_length(p_entry, 1), 0) loop
        v_entry := p_entry[i];
        v_kind := ledger.entry_kind(v_entry);
        v_public := substring(v_entry from 181);
        if ledger.u64(substring(v_entry from 2 for 8)) <> v_seq or v_kind = 0
            or substring(v_entry from 18 for 32) <> ledger.leaf_hash(v_last)
            or ledger.entry_ms(v_entry) < ledger.entry_ms(v_last) then
            raise exception 'entry % does not continue the log', v_seq using errcode = 'LG006';
        end if;
        if not exists (select 1 from ledger.signer s
                        where s.site_id = p_site_id and s.key_hash = substring(v_entry from 83 for 32) and s.until is null
                          and s.role = case when v_kind = 2 then 'root' else 'ingest' end) then
            raise exception 'the signer of entry % is not active', v_seq using errcode = 'LG004';
        end if;

        if v_kind > 1 then
            perform ledger.apply_control(p_site_id, v_seq, v_kind, v_public);
            insert into ledger.known (site_id, key, seq)
                values (p_site_id, ledger.core_hash(v_log, v_kind, ledger.entry_commit(v_entry), v_public), v_seq);
        elsif p_key[i] is not null then
            insert into ledger.known (site_id, key, seq) values (p_site_id, p_key[i], v_seq);
        end if;
        -- Events that were put back without an opening are among those that an erasure names, so none is counted.
        if v_kind = 3 and exists (select 1 from ledger.erased r
                                    left join ledger.entry e on e.site_id = r.site_id and e.seq = r.seq
                                   where r.site_id = p_site_id and r.by_seq = v_seq
                                     and ledger.entry_kind(e.entry) is distinct from 1) then
            raise exception 'the erasure at entry % names something else than events', v_seq using errcode = 'LG006';
        end if;
        insert into ledger.entry (site_id, seq, entry) values (p_site_id, v_seq, v_entry);
        if p_sealed[i] is not null then
            insert into ledger.opening (site_id, seq, sealed, visitor, content)
                values (p_site_id, v_seq, p_sealed[i], p_visitor[i], p_content[i]);
        end if;
        if p_actor[i] is not null then
            insert into ledger.related (site_id, subject, other)
                values (p_site_id, p_visitor[i], p_actor[i]), (p_site_id, p_actor[i], p_visitor[i])
                on conflict do nothing;
        end if;
        v_last := v_entry;
        v_seq := v_seq + 1;
    end loop;
end $$;

revoke all on function ledger.recover_entries from public;
