-- Data keys: wrapped by the master secret, they seal what the ledger holds of persons.
do $$ begin end $$;
