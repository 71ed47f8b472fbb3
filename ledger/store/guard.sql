-- Refuse DDL on the ledger's objects to everyone but `migrate`'s own role. Event triggers need a superuser;
-- `migrate` warns where it is none. `ddl_command_end` does not see drops, `sql_drop` does.

drop event trigger if exists ledger_refuse_ddl;
drop event trigger if exists ledger_refuse_drop;

create schema if not exists ledger_guard;  -- not in `ledger`: a DROP SCHEMA would take its own guard along

create or replace function ledger_guard.refuse_ddl() returns event_trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
    v_name text;
begin
    if current_user = 'ledger_migrate' then
        return;
    end if;
    if tg_event = 'sql_drop' then
        select o.object_identity into v_name from pg_event_trigger_dropped_objects() o
         where o.schema_name = 'ledger' or o.object_identity = 'ledger' or o.object_identity like '% on ledger.%' limit 1;
    elsif tg_tag = 'GRANT' then  -- of which Postgres tells nothing but that it was one
        select format('write access to %s', c.oid::regclass) into v_name
          from pg_class c, aclexplode(c.relacl) a
         where c.relnamespace = to_regnamespace('ledger') and a.grantee <> c.relowner
           and a.privilege_type not in ('SELECT', 'MAINTAIN') limit 1;  -- which changes no row (0018)
    else
        -- Triggers, rules and policies have no schema, only a table. What was moved or renamed away has another schema,
        -- but still its owner.
        select c.object_identity into v_name from pg_event_trigger_ddl_commands() c
          left join pg_class r on c.classid = 'pg_class'::regclass and r.oid = c.objid
          left join pg_proc p on c.classid = 'pg_proc'::regclass and p.oid = c.objid
          left join pg_namespace n on c.classid = 'pg_namespace'::regclass and n.oid = c.objid
         where c.schema_name = 'ledger' or c.object_identity = 'ledger' or c.object_identity like '% on ledger.%'
            or 'ledger_owner'::regrole in (r.relowner, p.proowner, n.nspowner) limit 1;
    end if;
    if v_name is not null then
        raise exception '% of % is refused: the ledger is append-only', tg_tag, v_name
            using errcode = 'LG100', hint = 'Schema changes come with `consent-ledger migrate`.';
    end if;
end $$;

create event trigger ledger_refuse_ddl on ddl_command_end execute function ledger_guard.refuse_ddl();
create event trigger ledger_refuse_drop on sql_drop execute function ledger_guard.refuse_ddl();
alter event trigger ledger_refuse_ddl enable always;
alter event trigger ledger_refuse_drop enable always;
