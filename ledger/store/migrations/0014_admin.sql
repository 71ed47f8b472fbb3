-- The administrative log of a site: a log of its own beside the site's.
do $$ begin end $$;
