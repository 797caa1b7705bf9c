CREATE TABLE {p}tasks (
	id TEXT NOT NULL PRIMARY KEY,
	group_id TEXT NOT NULL,
	held_group TEXT UNIQUE,
	status TEXT NOT NULL,
	version INTEGER NOT NULL,
	last_event INTEGER NOT NULL,
	position TEXT NOT NULL,
	is_open INTEGER NOT NULL,
	runnable_at INTEGER,
	record TEXT NOT NULL
);
CREATE INDEX {p}tasks_position ON {p}tasks (position);
CREATE INDEX {p}tasks_group ON {p}tasks (group_id, position);
CREATE INDEX {p}tasks_status ON {p}tasks (status, position);
CREATE INDEX {p}tasks_open ON {p}tasks (position) WHERE is_open = 1;
CREATE TABLE {p}instances (
	task_id TEXT NOT NULL,
	instance_id TEXT NOT NULL,
	record TEXT NOT NULL,
	PRIMARY KEY (task_id, instance_id)
);
CREATE TABLE {p}events (
	task_id TEXT NOT NULL,
	seq INTEGER NOT NULL,
	record TEXT NOT NULL,
	PRIMARY KEY (task_id, seq)
);
CREATE TABLE {p}outputs (
	task_id TEXT NOT NULL,
	instance_id TEXT NOT NULL,
	record TEXT NOT NULL,
	PRIMARY KEY (task_id, instance_id)
);
