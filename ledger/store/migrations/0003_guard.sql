-- Append-only for real, as far as a database can promise it (the proof is outside, in `verify`): the service role
-- may read and call functions, nothing else; triggers stop the owner too; event triggers (guard.sql) stop DDL.

create function ledger.refuse() returns trigger language plpgsql as $$
begin
    raise exception '% on ledger.% is refused: the ledger is append-only', tg_op, tg_table_name
        using errcode = 'LG100', hint = 'Erase events with an erasure entry; nothing else leaves the ledger.';
end $$;

create function ledger.refuse_unless_erased() returns trigger language plpgsql as $$
begin
    if not exists (select 1 from ledger.erased e where e.site_id = old.site_id and e.seq = old.seq) then
        raise exception 'DELETE on ledger.% is refused: no erasure entry names %', tg_table_name, old.seq
            using errcode = 'LG100', hint = 'Erase events with an erasure entry; nothing else leaves the ledger.';
    end if;
    return old;
end $$;

do $$
declare
    v_table text;
begin
    foreach v_table in array array['site', 'entry', 'erased', 'document', 'policy'] loop
        execute format('create trigger append_only before update or delete on ledger.%I
                        for each row execute function ledger.refuse()', v_table);
    end loop;
    foreach v_table in array array['opening', 'known'] loop
        execute format('create trigger append_only before update on ledger.%I
                        for each row execute function ledger.refuse()', v_table);
        execute format('create trigger erased_only before delete on ledger.%I
                        for each row execute function ledger.refuse_unless_erased()', v_table);
        execute format('alter table ledger.%I enable always trigger erased_only', v_table);
    end loop;
    foreach v_table in array array['site', 'entry', 'known', 'erased', 'document', 'policy', 'opening'] loop
        execute format('create trigger no_truncate before truncate on ledger.%I
                        for each statement execute function ledger.refuse()', v_table);
        execute format('alter table ledger.%I enable always trigger no_truncate', v_table);
        execute format('alter table ledger.%I enable always trigger append_only', v_table);
    end loop;
end $$;
