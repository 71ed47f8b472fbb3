#!/bin/sh
# Runs once, when PostgreSQL's volume is made: the login that the service uses. It owns nothing and may only call the
# ledger's functions and read; `consent-ledger migrate` makes everything else as the superuser.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --set password="$LEDGER_DATABASE_PASSWORD" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
create role ledger_service nologin;
create role ledger_app login password :'password' in role ledger_service;
SQL
