-- An owner that ends says so, and finishes what it was given; whoever the broker chose next waits for it until then.

ALTER TABLE partitions ADD COLUMN draining_until timestamptz;

COMMENT ON COLUMN partitions.draining_until IS 'The owner is ending and has until then to commit what it holds.';
