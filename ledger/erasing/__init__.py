"""Forgetting a person: orders, the work that carries them out, and what is told of them.

An order blocks its subject at once, under the site's lock, so that nothing is recorded any more; the eraser takes the
openings away, in batches that mix people, with an erasure entry each; what has to outlive that (blocks, marks, proof
that is held, acceptances that law wants kept) is written in the same transaction.
"""
