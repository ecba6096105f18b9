#!/usr/bin/env bash
# Ends what start_postgres.sh started: stop_postgres.sh FOLDER
folder=$1
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$bin/pg_ctl" -D "$folder/data" -m immediate stop
else "$bin/pg_ctl" -D "$folder/data" -m immediate stop; fi
