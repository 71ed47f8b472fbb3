-- The register of requests that subjects make.
do $$ begin end $$;
