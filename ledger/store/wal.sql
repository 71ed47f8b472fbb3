-- The service may begin a new WAL file and ask for a checkpoint, so that what was erased leaves the WAL soon. Both are a
-- superuser's to grant; without them the WAL follows the server's own checkpoints (`doctor` tells).

do $$
begin
    if not pg_has_role('ledger_service', 'pg_checkpoint', 'member') then
        grant pg_checkpoint to ledger_service;
    end if;
    if not has_function_privilege('ledger_service', 'pg_switch_wal()', 'execute') then
        grant execute on function pg_switch_wal() to ledger_service;
    end if;
end $$;
