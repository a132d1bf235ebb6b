-- An owner that ends says so, and finishes what it was given; whoever the broker chose next waits for it until then.

ALTER TABLE partitions ADD COLUMN draining_until timestamptz;

COMMENT ON COLUMN partitions.draining_until IS 'The owner is ending and has until then to commit what it holds.';

-- An open candle is changed by each commit that has a tick of it. With room in its page that touches no index.
ALTER TABLE candle_state SET (fillfactor = 70);
ALTER TABLE partitions SET (fillfactor = 50);
ALTER TABLE publishers SET (fillfactor = 50);
