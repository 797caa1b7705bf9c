SET @rollingupgrade = IF(
	(SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{p}tasks' AND column_name = 'kind') = 0,
	'ALTER TABLE {p}tasks ADD COLUMN kind varbinary(64) NOT NULL DEFAULT '''' COMMENT ''upgrade or rollback; empty where a version wrote the task that did not know the column''',
	'DO 0');
PREPARE rollingupgrade FROM @rollingupgrade;
EXECUTE rollingupgrade;
DEALLOCATE PREPARE rollingupgrade;
