CREATE TABLE {p}tasks (
	id text COLLATE "C" PRIMARY KEY,
	group_id text COLLATE "C" NOT NULL,
	held_group text COLLATE "C" CONSTRAINT {p}one_holder UNIQUE,
	status text COLLATE "C" NOT NULL,
	version bigint NOT NULL,
	last_event bigint NOT NULL,
	position text COLLATE "C" NOT NULL,
	is_open smallint NOT NULL,
	runnable_at bigint,
	record text NOT NULL
);
COMMENT ON TABLE {p}tasks IS 'Rolling upgrades: the head of each task, as JSON in record; the other columns are made from it';
COMMENT ON COLUMN {p}tasks.held_group IS 'the scaling group that the task holds; null if it holds none';
COMMENT ON COLUMN {p}tasks.position IS 'creation time and ID: the order of lists';
COMMENT ON COLUMN {p}tasks.is_open IS '1 if the task has not ended, restores or holds its group';
COMMENT ON COLUMN {p}tasks.runnable_at IS 'from when on there is something to do, in nanoseconds since 1970; 0 is at once, null is never';
CREATE INDEX {p}tasks_position ON {p}tasks (position);
CREATE INDEX {p}tasks_group ON {p}tasks (group_id, position);
CREATE INDEX {p}tasks_status ON {p}tasks (status, position);
CREATE INDEX {p}tasks_open ON {p}tasks (position) WHERE is_open = 1;
CREATE TABLE {p}instances (
	task_id text COLLATE "C" NOT NULL,
	instance_id text COLLATE "C" NOT NULL,
	record text NOT NULL,
	PRIMARY KEY (task_id, instance_id)
);
CREATE TABLE {p}events (
	task_id text COLLATE "C" NOT NULL,
	seq bigint NOT NULL,
	record text NOT NULL,
	PRIMARY KEY (task_id, seq)
);
CREATE TABLE {p}outputs (
	task_id text COLLATE "C" NOT NULL,
	instance_id text COLLATE "C" NOT NULL,
	record text NOT NULL,
	PRIMARY KEY (task_id, instance_id)
);
