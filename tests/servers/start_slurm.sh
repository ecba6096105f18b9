#!/usr/bin/env bash
# A Slurm of three virtual nodes on this machine: start_slurm.sh FOLDER PORT. Prints the SLURM_CONF to use.
# Needs root and Debian's slurm-wlm, slurm-wlm-basic-plugins, munge. The nodes share the machine's cores, and their
# names do not resolve. Key, sockets and state are private to FOLDER.
set -euo pipefail
folder=$1 port=$2 nodes=3
host=$(hostname -s)
mkdir -p "$folder"/{munge,state,log,run}
chmod 755 "$folder"
chmod 711 "$folder/munge"
(umask 077; head -c 128 /dev/urandom >"$folder/munge/key")
munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" --seed-file="$folder/munge/seed" \
  --pid-file="$folder/run/munged.pid" --log-file="$folder/munge/log" --num-threads=2
cat >"$folder/cgroup.conf" <<C
CgroupPlugin=cgroup/v1
CgroupAutomount=no
C
cat >"$folder/slurm.conf" <<C
ClusterName=loop
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket
SlurmctldPort=$port
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmdSpoolDir=$folder/spool.%n
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
MailProg=/bin/true
KillWait=5
JobRequeue=1
$(for node in $(seq $nodes); do
  echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + node)) CPUs=2 State=UNKNOWN"
done)
PartitionName=debug Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
C
export SLURM_CONF="$folder/slurm.conf"
slurmctld -c -f "$SLURM_CONF"
for node in $(seq $nodes); do
  mkdir -p "$folder/spool.n$node"
  slurmd -N "n$node" -f "$SLURM_CONF"
done
for _ in $(seq 300); do
  up=$(sinfo -h -N -o '%T' 2>/dev/null | grep -cx idle || true)
  [ "$up" = $nodes ] && { echo "$SLURM_CONF"; exit 0; }
  sleep 0.1
done
echo "only $up of $nodes nodes came up" >&2
tail -n 5 "$folder"/log/* >&2
exit 1
