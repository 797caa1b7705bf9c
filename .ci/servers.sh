#!/bin/bash
# Private database servers for the tests of store/sqltest: PostgreSQL and MariaDB, on loopback and on free ports, with data
# in a temporary folder that goes away with them.
#
#   .ci/servers.sh install      installs the Debian packages that are missing
#   .ci/servers.sh start DIR    starts both with all they need in DIR, which must not exist; prints what env prints
#   .ci/servers.sh env DIR      prints lines for eval: the addresses, as the tests expect them in the environment
#   .ci/servers.sh stop DIR     stops both and removes DIR
#
# The servers refuse to run as root: then they run as "nobody".
set -euo pipefail

usage() { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
say() { echo "servers: $*" >&2; }

postgres_bin() { # the newest version that is installed
  local dir
  dir=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
  [ -n "$dir" ] || dir=$(dirname "$(command -v initdb 2>/dev/null || echo /nowhere/initdb)")
  [ -x "$dir/initdb" ] && echo "$dir"
}

mariadbd_bin() { command -v mariadbd || ls /usr/sbin/mariadbd 2>/dev/null; }

as_user() { # runs a command as somebody who is not root
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"; else "$@"; fi
}

free_port() { # asks the kernel by trying: bash can only connect
  local port
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo $port; return; fi
  done
  say "no free port"; return 1
}

install() {
  local missing=()
  postgres_bin >/dev/null || missing+=(postgresql)
  { mariadbd_bin >/dev/null && command -v mariadb-install-db >/dev/null; } || missing+=(mariadb-server-core mariadb-client-core)
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || { say "missing: ${missing[*]}, and there is no apt-get"; return 1; }
  [ "$(id -u)" = 0 ] || { say "missing: ${missing[*]}; install them, or run as root"; return 1; }
  say "installs ${missing[*]}"
  # No cluster and no service of the packages' own is wanted.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2
}

start_postgres() {
  local dir=$1 bin port
  bin=$(postgres_bin) || { say "PostgreSQL is not installed"; return 1; }
  # Tests kill connections and clients, never the machine: nothing has to reach the disk.
  as_user "$bin/initdb" -D "$dir/pg" -U test -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; return 1; }
  for _ in 1 2 3; do
    port=$(free_port)
    if as_user "$bin/pg_ctl" -D "$dir/pg" -l "$dir/pg.log" -w -t 60 -s \
      -o "-c listen_addresses=127.0.0.1 -p $port -c unix_socket_directories= -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200" start; then
      echo "export ROLLINGUPGRADE_TEST_POSTGRES='postgres://test@127.0.0.1:$port/postgres?sslmode=disable'" >>"$dir/env"
      return
    fi
  done
  cat "$dir/pg.log" >&2
  return 1
}

start_mariadb() {
  local dir=$1 bin port pid
  bin=$(mariadbd_bin) || { say "MariaDB is not installed"; return 1; }
  as_user mariadb-install-db --no-defaults --datadir="$dir/my" --auth-root-authentication-method=normal --skip-test-db >"$dir/my-install.log" 2>&1 || { cat "$dir/my-install.log" >&2; return 1; }
  printf '%s\n' "CREATE DATABASE test;" "CREATE USER test@'%' IDENTIFIED BY 'test';" "GRANT ALL ON *.* TO test@'%';" >"$dir/my.sql"
  chmod a+r "$dir/my.sql"
  for _ in 1 2 3; do
    port=$(free_port)
    as_user "$bin" --no-defaults --datadir="$dir/my" --socket="$dir/my.sock" --pid-file="$dir/my.pid" --bind-address=127.0.0.1 --port="$port" \
      --skip-name-resolve --init-file="$dir/my.sql" --innodb-flush-log-at-trx-commit=0 --innodb-flush-method=nosync --skip-innodb-doublewrite --innodb-file-per-table=0 --skip-log-bin \
      --max-connections=300 --innodb-buffer-pool-size=128M >"$dir/my.log" 2>&1 </dev/null &
    pid=$!
    for _ in $(seq 300); do
      if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && [ -s "$dir/my.pid" ]; then
        echo "export ROLLINGUPGRADE_TEST_MYSQL='test:test@tcp(127.0.0.1:$port)/test'" >>"$dir/env"
        return
      fi
      kill -0 $pid 2>/dev/null || break
      sleep 0.1
    done
    kill $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
  done
  cat "$dir/my.log" >&2
  return 1
}

start() {
  local dir=$1
  mkdir -m 755 "$dir"
  dir=$(cd "$dir" && pwd)
  [ "$(id -u)" = 0 ] && chown nobody:nogroup "$dir"
  : >"$dir/env"
  start_postgres "$dir" & local pg=$!
  start_mariadb "$dir" & local my=$!
  local ok=0
  wait $pg || ok=1
  wait $my || ok=1
  [ $ok = 0 ] || { stop "$dir"; return 1; }
  cat "$dir/env"
}

ended() { # waits until a process is gone
  for _ in $(seq 200); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.05; done
  return 1
}

stop() {
  local dir=$1 pid
  [ -f "$dir/env" ] || { say "no servers in $dir"; return 1; }
  for file in pg/postmaster.pid my.pid; do
    [ -s "$dir/$file" ] || continue
    pid=$(head -1 "$dir/$file")
    kill -INT "$pid" 2>/dev/null || true # PostgreSQL: end the sessions
    [ "$file" = my.pid ] && kill -TERM "$pid" 2>/dev/null || true
    ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
  done
  rm -rf "$dir"
}

[ $# -ge 1 ] || usage
case $1 in
  install) install ;;
  start | stop) [ $# = 2 ] || usage; "$1" "$2" ;;
  env) [ $# = 2 ] || usage; cat "$2/env" ;;
  *) usage ;;
esac
