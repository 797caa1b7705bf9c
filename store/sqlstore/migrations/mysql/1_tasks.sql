CREATE TABLE IF NOT EXISTS {p}tasks (
	id varbinary(512) NOT NULL PRIMARY KEY,
	group_id varbinary(512) NOT NULL,
	held_group varbinary(512) COMMENT 'the scaling group that the task holds; null if it holds none',
	status varbinary(64) NOT NULL,
	version bigint NOT NULL,
	last_event bigint NOT NULL,
	position varbinary(544) NOT NULL COMMENT 'creation time and ID: the order of lists',
	is_open smallint NOT NULL COMMENT '1 if the task has not ended, restores or holds its group',
	runnable_at bigint COMMENT 'from when on there is something to do, in nanoseconds since 1970; 0 is at once, null is never',
	record longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	CONSTRAINT {p}one_holder UNIQUE (held_group),
	INDEX {p}tasks_position (position),
	INDEX {p}tasks_group (group_id, position),
	INDEX {p}tasks_status (status, position),
	INDEX {p}tasks_open (is_open, position)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC COMMENT 'Rolling upgrades: the head of each task, as JSON in record; the other columns are made from it';
CREATE TABLE IF NOT EXISTS {p}instances (
	task_id varbinary(512) NOT NULL,
	instance_id varbinary(512) NOT NULL,
	record longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	PRIMARY KEY (task_id, instance_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
CREATE TABLE IF NOT EXISTS {p}events (
	task_id varbinary(512) NOT NULL,
	seq bigint NOT NULL,
	record longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	PRIMARY KEY (task_id, seq)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
CREATE TABLE IF NOT EXISTS {p}outputs (
	task_id varbinary(512) NOT NULL,
	instance_id varbinary(512) NOT NULL,
	record longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	PRIMARY KEY (task_id, instance_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
