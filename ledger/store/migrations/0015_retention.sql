-- Retention: how far a pass over old openings has come.
do $$ begin end $$;
