-- The node's memory. One row a fact; files under updates/ are named by rows and by nothing else.
CREATE TABLE IF NOT EXISTS datasets (
    name TEXT PRIMARY KEY, path TEXT NOT NULL, format TEXT NOT NULL, rows INTEGER NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, columns TEXT NOT NULL, added REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS shares (
    dataset TEXT NOT NULL REFERENCES datasets (name) ON DELETE CASCADE, federation TEXT NOT NULL,
    PRIMARY KEY (dataset, federation)
) STRICT;
CREATE TABLE IF NOT EXISTS approvals (
    federation TEXT NOT NULL, app_digest TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (federation, app_digest)
) STRICT;
CREATE TABLE IF NOT EXISTS jobs (job TEXT PRIMARY KEY, prepare BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS updates (
    task TEXT PRIMARY KEY, job TEXT NOT NULL, seq INTEGER NOT NULL, slot INTEGER NOT NULL,
    content TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, file TEXT NOT NULL
) STRICT;
-- Every lease that this node gave, the node's own account of who used what: outcome '' = held now, seen = last known.
CREATE TABLE IF NOT EXISTS leases (
    key TEXT PRIMARY KEY, lease TEXT NOT NULL, task TEXT NOT NULL, job TEXT NOT NULL, tenant TEXT NOT NULL,
    slices TEXT NOT NULL, cpu_milli INTEGER NOT NULL, ram_mib INTEGER NOT NULL,
    start REAL NOT NULL, seen REAL NOT NULL, held_s REAL NOT NULL, outcome TEXT NOT NULL,
    enforcement TEXT NOT NULL, peak_mib INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS leases_by_seen ON leases (seen);
CREATE TABLE IF NOT EXISTS states (
    job TEXT NOT NULL, seq INTEGER NOT NULL, slot INTEGER NOT NULL, file TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (job, seq, slot)
) STRICT;
-- Masked sums. `signed` is for ever: one list of survivors a (job, round), whatever happens to the rest.
CREATE TABLE IF NOT EXISTS masked (
    task TEXT PRIMARY KEY, job TEXT NOT NULL, seq INTEGER NOT NULL, attempt INTEGER NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, file TEXT NOT NULL, record BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS signed (
    job TEXT NOT NULL, seq INTEGER NOT NULL, statement TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (job, seq)
) STRICT;
CREATE TABLE IF NOT EXISTS refusals (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, job TEXT NOT NULL, task TEXT NOT NULL, code TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
