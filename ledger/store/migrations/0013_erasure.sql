-- Forgetting: erasures ordered, who is blocked meanwhile, and what outlives an erasure.
do $$ begin end $$;
