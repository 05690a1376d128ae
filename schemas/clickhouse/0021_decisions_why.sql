-- What a decision saw of each candidate beside its score, and what a session had to put up with because all was full.
ALTER TABLE ${database}.decisions ADD COLUMN IF NOT EXISTS candidate_tiers Array(LowCardinality(String)) COMMENT 'where they stood before their score: pinned, current, room, full, failing; from Decision.candidates.tier';
ALTER TABLE ${database}.decisions ADD COLUMN IF NOT EXISTS candidate_loads Array(Float64) COMMENT 'share of their capacity in use, as forecast; from Decision.candidates.load';
ALTER TABLE ${database}.decisions ADD COLUMN IF NOT EXISTS candidate_harms Array(Float64) COMMENT 'share of a one-minute view lost on them; from Decision.candidates.harm';
ALTER TABLE ${database}.decisions ADD COLUMN IF NOT EXISTS cap_bps Int64 COMMENT 'bitrate that the renditions are held to because all is nearly full, bit/s; 0: all renditions; from Decision.cap_bps';
ALTER TABLE ${database}.decisions ADD COLUMN IF NOT EXISTS queued_ms Int64 COMMENT 'how long a new session had to wait for a place, ms; from Decision.queued_ms';
