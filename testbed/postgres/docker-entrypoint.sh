#!/bin/bash
# Starts PostgreSQL as the official image does, so that one chart runs both: on an empty PGDATA it first makes the
# database from POSTGRES_USER, POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, POSTGRES_DB and POSTGRES_INITDB_ARGS, and runs
# the *.sql and *.sh files of /docker-entrypoint-initdb.d.
set -euo pipefail

initialise() {
  local password=${POSTGRES_PASSWORD:-}
  [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || password=$(cat "$POSTGRES_PASSWORD_FILE")
  [ -n "$password" ] || { echo 'postgres: POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set for the first start' >&2; exit 1; }
  local user=${POSTGRES_USER:-postgres} new=$PGDATA/.initialising file
  local database=${POSTGRES_DB:-$user}

  # The database is made in a folder of its own and moved at the end, PG_VERSION last: a start that is killed in
  # the middle leaves nothing that looks like a database, and the next one begins again.
  if [ -e "$new" ]; then
    find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +
  fi
  mkdir -m 0700 "$new"
  # shellcheck disable=SC2086 # the arguments are words
  initdb --pgdata="$new" --username="$user" --pwfile=<(printf '%s\n' "$password") --auth-local=trust \
    --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 ${POSTGRES_INITDB_ARGS:-}
  printf 'host all all all scram-sha-256\n' >> "$new/pg_hba.conf"
  sed -i "s/^#\?listen_addresses.*/listen_addresses = '*'/" "$new/postgresql.conf"

  export PGPASSWORD=$password PGUSER=$user PGHOST=/var/run/postgresql
  pg_ctl --pgdata="$new" --wait --silent --options="-c listen_addresses='' -c unix_socket_directories=$PGHOST" start
  if [ "$database" != postgres ]; then
    psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=postgres --set=name="$database" <<< 'CREATE DATABASE :"name"'
  fi
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
    *.sql) psql --no-psqlrc --set=ON_ERROR_STOP=1 --dbname="$database" --file="$file" ;;
    *.sh) bash "$file" ;;
    esac
  done
  pg_ctl --pgdata="$new" --wait --silent --mode=fast stop
  unset PGPASSWORD PGUSER PGHOST

  find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
  mv "$new/PG_VERSION" "$PGDATA"
  rmdir "$new"
}

case ${1:-} in -*) set -- postgres "$@" ;; esac
if [ "${1:-}" = postgres ]; then
  mkdir -p "$PGDATA"
  # A volume's group rights (fsGroup) are more than PostgreSQL bears on its data.
  chmod 0700 "$PGDATA" 2> /dev/null || true
  [ -s "$PGDATA/PG_VERSION" ] || initialise
  unset POSTGRES_PASSWORD
fi
exec "$@"
