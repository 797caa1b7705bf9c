ALTER TABLE {p}tasks ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT '';
COMMENT ON COLUMN {p}tasks.kind IS 'upgrade or rollback; empty where a version wrote the task that did not know the column';
