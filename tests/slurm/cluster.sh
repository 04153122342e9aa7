# shellcheck shell=bash
# Sourced after namespaces.sh and common.sh: a Slurm of six nodes on this machine. No other Slurm, port or process is
# touched, and its daemons end with the test.
need_programs "slurm-wlm munge" munged slurmctld slurmd srun

# names and numbers are only resolved where there is an address beside the loopback's own
address=192.0.2.1
ip address add $address/32 dev lo

nodes=6
cluster=$work/cluster
export SLURM_CONF=$cluster/slurm.conf
# nothing of a job that this test may itself be part of
while read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(SLURM_|SBATCH_|SRUN_|SALLOC_|PMIX_)' | grep -v '^SLURM_CONF$')
# the only network is the loopback, which Open MPI leaves out unless told
export OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
export OMPI_MCA_mpi_yield_when_idle=1 # the nodes share this machine's cores
export OMPI_MCA_orte_tmpdir_base=$work # its folders are named by process, and processes have other numbers outside

stop_cluster() {
  end_processes
  cleanup
}
trap stop_cluster EXIT

write_configuration() {
  local host
  host=$(hostname -s)
  # two devices, numbered as those of NVIDIA are: Slurm takes the numbers from the names
  mknod "$cluster/gpu0" c 1 3 && mknod "$cluster/gpu1" c 1 3 || skip "no device files can be made here"
  echo "Name=gpu File=$cluster/gpu[0-1]" >"$cluster/gres.conf"
  cat >"$SLURM_CONF" <<END
ClusterName=shardq
SlurmctldHost=$host($address)
SlurmUser=root
SlurmctldPort=6817
SlurmdPort=6818
AuthType=auth/munge
# the second number is also how long a job waits after it was put back
AuthInfo=socket=$cluster/munge/socket,cred_expire=5
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool/%n
TmpFS=$cluster/tmp/%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/%n.pid
SlurmctldLogFile=$cluster/log/slurmctld
SlurmdLogFile=$cluster/log/%n
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=1,sched_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=2
MpiDefault=pmix
GresTypes=gpu
NodeName=node[1-$nodes] NodeHostname=$host NodeAddr=$address Port=[7001-$((7000 + nodes))] CPUs=4 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
END
}

# A node has shared memory of its own: ranks of two nodes would take each other's for theirs.
start_node() { # start_node NUMBER
  mkdir -p "$cluster/spool/node$1" "$cluster/tmp/node$1"
  unshare --mount sh -c 'mount -t tmpfs none /dev/shm && exec slurmd -D -N "$1"' sh "node$1" </dev/null >/dev/null 2>&1 &
  disown
}

# await SECONDS COMMAND...: until it succeeds; fails after that time.
await() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

all_idle() { [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" -eq "$nodes" ]; }

start_cluster() {
  local node
  mkdir -p "$cluster"/{state,spool,tmp,log,munge}
  chmod 700 "$cluster/munge"
  (umask 077 && head -c 128 /dev/urandom >"$cluster/munge/key")
  munged --force --foreground --key-file="$cluster/munge/key" --socket="$cluster/munge/socket" \
    --pid-file="$cluster/munge/pid" --seed-file="$cluster/munge/seed" --log-file="$cluster/log/munged" \
    </dev/null >/dev/null 2>&1 &
  await 10 test -S "$cluster/munge/socket" || fail "munged did not start: $(cat "$cluster/log/munged")"
  write_configuration
  slurmctld -D </dev/null >/dev/null 2>&1 &
  for ((node = 1; node <= nodes; node++)); do start_node "$node"; done
  await 30 all_idle || fail "Slurm did not start:" "$(sinfo -N 2>&1)" "$(tail -n 20 "$cluster/log/slurmctld")"
  srun --mpi=list 2>&1 | grep -q pmix || skip "this Slurm has no PMIx plugin"
}

job_state() { scontrol -o show job "$1" 2>/dev/null | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p'; }
restarts() { scontrol -o show job "$1" | sed -n 's/.* Restarts=\([0-9]*\).*/\1/p'; }
is_state() { [ "$(job_state "$1")" = "$2" ]; }
