-- Download links that work once, and consumers that confirm erasures.
do $$ begin end $$;
