// Package sqltest holds the tests of package sqlstore that need a driver and a server. They are in a module of their own, so
// that the library depends on no driver.
//
// The servers are named by the environment: ROLLINGUPGRADE_TEST_POSTGRES and ROLLINGUPGRADE_TEST_MYSQL, in the form that pgx and go-sql-driver/mysql
// take. To run everything:
//
//	dir=$(mktemp -u)
//	eval "$(../../.ci/servers.sh start "$dir")"
//	go test ./...
//	../../.ci/servers.sh stop "$dir"
//
// Without a server its tests are skipped, and said so; with CI=true they fail.
package sqltest
