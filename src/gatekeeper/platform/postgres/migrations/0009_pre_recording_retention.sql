-- Recordings that were deleted because their time was over. The files themselves say what is left
-- to be removed.

ALTER TABLE gatekeeper.terminal ADD COLUMN recording_deleted_at timestamptz;
