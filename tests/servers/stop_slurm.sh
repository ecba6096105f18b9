#!/usr/bin/env bash
# Ends what start_slurm.sh started, by its pid files: stop_slurm.sh FOLDER
folder=$1
SLURM_CONF="$folder/slurm.conf" timeout 10 scancel -u "$(id -un)" 2>/dev/null
for file in "$folder"/run/slurmd.*.pid "$folder"/run/slurmctld.pid "$folder"/run/munged.pid; do
  [ -s "$file" ] || continue
  pid=$(cat "$file")
  grep -qsE '^Name:.(munged|slurmctld|slurmd)' "/proc/$pid/status" || continue
  kill "$pid"
  for _ in $(seq 60); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
  kill -9 "$pid" 2>/dev/null
done
exit 0
