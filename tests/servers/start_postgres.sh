#!/usr/bin/env bash
# A throwaway PostgreSQL on 127.0.0.1: start_postgres.sh FOLDER PORT. Prints its address. Debian package: postgresql.
set -euo pipefail
folder=$1 port=$2
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
mkdir -p "$folder"
[ "$(id -u)" != 0 ] || chown postgres "$folder"
as "$bin/initdb" -D "$folder/data" -A trust -U srun --no-sync >/dev/null
as "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/log" -o "-c listen_addresses=127.0.0.1 -c port=$port \
  -c unix_socket_directories='$folder' -c fsync=off -c max_connections=100" start >/dev/null
as "$bin/createdb" -h 127.0.0.1 -p "$port" -U srun optuna
echo "postgresql+psycopg://srun@127.0.0.1:$port/optuna"
