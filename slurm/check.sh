#!/usr/bin/env bash
# Looks at an allocation before a long job runs in it: ranks, hosts, processors, devices, and a folder that hosts share.
#
#   salloc --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 slurm/check.sh FOLDER
#   sbatch --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 slurm/check.sh FOLDER
#
# CHECK_MB (1024): what each host writes to FOLDER and reads back.
#SBATCH --job-name=shardq-check
#SBATCH --output=shardq-check-%j.out

# shellcheck disable=SC2016,SC2154 # what stands in single quotes is for the ranks' shells; site.sh sets the rest
here=${SHARDQ_SLURM:-$(dirname "$0")}
if [ ! -e "$here/launch.sh" ]; then # Slurm runs a copy of this script
  here=$(dirname "$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p')")
fi
. "$here/launch.sh"
folder=${1:?usage: check.sh FOLDER}
megabytes=${CHECK_MB:-1024}
failed=no

heading() { printf '\n== %s\n' "$*"; }
problem() {
  echo "PROBLEM: $*"
  failed=yes
}
on_ranks() { (start_ranks --gpu-bind=none -- "$@"); }                      # COMMAND on every rank
on_hosts() { srun --ntasks-per-node=1 --ntasks="$SLURM_JOB_NUM_NODES" "$@"; } # COMMAND once on every host

[ -n "${SLURM_JOB_ID-}" ] || { echo "check.sh: not in a job of Slurm; start it with salloc or sbatch"; exit 2; }

heading "ranks of each host, and processors of a rank"
on_ranks bash -c 'echo "${SLURMD_NODENAME:-$(hostname)}: rank with $(nproc) processors"' | sort | uniq -c ||
  problem "$launcher cannot start the ranks"

heading "the program, and whether its ranks find each other"
on_ranks "$shardq" --version | sort | uniq -c | grep . || problem "$shardq does not run on every host"
# one job of many ranks: a model that is not there is said once by rank 0, by every rank when each is alone; their exit codes are
# left out, for a launcher that sees one ends the other ranks before they have said it
said=$(on_ranks bash -c '"$@"; true' bash "$shardq" eval --model "$folder/no such model" --tokens none 2>&1)
lines=$(grep -c '^shardq: error: ' <<<"$said")
if [ "$lines" -ne 1 ]; then
  echo "$said"
  problem "the ranks do not form one job ($lines of them are first): see srun --mpi=list and site.sh"
fi

heading "devices of each host"
on_hosts bash -c 'echo "${SLURMD_NODENAME:-$(hostname)}: $(nvidia-smi -L 2>/dev/null | wc -l) GPUs"' | sort

heading "links between the ranks: [bytes a second, seconds of a message] of sums in a node and among nodes"
machine=$folder/shardq-check.$SLURM_JOB_ID.yaml
if on_ranks "$shardq" bench --out "$machine"; then
  grep -E '^(backend|ranks_per_node|link|network|host_link|host_network):' "$machine"
else
  problem "$shardq bench does not run"
fi
rm -f "$machine"

heading "$folder: $megabytes MB written by each host at once, then read back"
on_hosts env "folder=$folder" "megabytes=$megabytes" bash -c '
  name=${SLURMD_NODENAME:-$(hostname)}
  file=$folder/shardq-check.$SLURM_JOB_ID.$name
  trap "rm -f \"\$file\"" EXIT
  rate() { awk -F, "END { print \$NF }"; }
  written=$(dd if=/dev/zero of="$file" bs=1M count="$megabytes" conv=fsync 2>&1 | rate)
  dd if="$file" iflag=nocache count=0 status=none # drops what this host has in memory of it
  echo "$name: written at$written, read at$(dd if="$file" of=/dev/null bs=1M 2>&1 | rate)"
  [ -s "$file" ]' | sort || problem "$folder cannot be written on every host"

heading "$folder: seen by all hosts"
mark=$folder/shardq-check.$SLURM_JOB_ID.seen
hosts=$(seq -s ' ' 0 $((SLURM_JOB_NUM_NODES - 1)))
on_hosts bash -c 'true >"$1.$SLURM_NODEID"' bash "$mark" || problem "$folder cannot be written on every host"
if on_hosts bash -c 'for host in $2; do [ -e "$1.$host" ] || exit 1; done' bash "$mark" "$hosts"; then
  echo "yes"
else
  problem "the hosts do not see each other's files there"
fi
rm -f "$mark".*

[ $failed = no ]
