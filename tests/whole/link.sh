#!/usr/bin/env bash
# Ranks on two hosts: network namespaces that a cable joins, mpirun over TCP between them. A slow link only takes longer; a
# cut one and a rank that has frozen end the job with a clear message within the time that was set, and it goes on when the
# cable is back.
. "$(dirname "$0")/../namespaces.sh"
. "$(dirname "$0")/common.sh"
need_programs iproute2 tc
finish_test() {
  end_processes
  cleanup
}
trap finish_test EXIT

# --- the two hosts ---

mount -t tmpfs none /run # where ip keeps the names of networks
ip netns add far
ip link add cable type veth peer name cable_far netns far || skip "no virtual cable can be made here"
ip address add 192.0.2.1/24 dev cable
ip link set cable up
ip netns exec far sh -c 'ip link set lo up && ip address add 192.0.2.2/24 dev cable_far && ip link set cable_far up'

# What mpirun starts on the other host instead of ssh: with a name and shared memory of its own there.
cat >"$work/agent" <<'EOF'
#!/bin/sh
shift # the name of the host
exec ip netns exec far unshare --mount --uts sh -c 'hostname far && mount -t tmpfs none /dev/shm && eval "$*"' sh "$@"
EOF
chmod +x "$work/agent"
export OMPI_MCA_plm_rsh_agent=$work/agent OMPI_MCA_orte_tmpdir_base=$work OMPI_MCA_btl=self,vader,tcp
export OMPI_MCA_btl_tcp_if_include=192.0.2.0/24 OMPI_MCA_oob_tcp_if_include=192.0.2.0/24
export OMPI_MCA_mpi_yield_when_idle=1 # the hosts share this machine's cores
# mpirun notices within seconds that the other host is gone
export OMPI_MCA_oob_tcp_keepalive_time=1 OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=2

tokens "$work/tokens" 512 64 "$(vocabulary llama)" 7
job=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1 --state-seconds 0)
run 2 "${job[@]}" --out "$work/whole" || { cat "$work/err"; fail "the undisturbed run"; }

both=(--host 192.0.2.1:1,192.0.2.2:1 -n 2) # one rank on each host

on_both() { # on_both OPTION...
  mpirun "${both[@]}" "$SHARDQ" "${job[@]}" --out "$work/out" "$@" </dev/null >/dev/null 2>"$work/err"
}

same() {
  cmp "$work/whole.store.h5" "$work/out.store.h5" || fail "$1: the store differs"
  same_folder "$work/whole" "$work/out"
  echo "$1: after $SECONDS s"
}

on_both || { cat "$work/err"; fail "on two hosts"; }
grep -q '2 ranks of 1 thread' "$work/err" || { cat "$work/err"; fail "not two ranks"; }
same "two hosts"

# --- a slow link ---

rm -r "$work/out" "$work/out".*
if tc qdisc add dev cable root tbf rate 4mbit burst 20k latency 200ms 2>/dev/null; then
  on_both --timeout 30 || { cat "$work/err"; fail "over a slow link"; }
  tc qdisc del dev cable root
  same "a slow link"
  rm -r "$work/out" "$work/out".*
else
  echo "a slow link: not tested, tc has no tbf here"
fi

# --- faults ---

# hit COMMAND...: starts the job, and runs the command while it is held in its second block; sets status.
hit() {
  status=0
  launch_held 4 1 "${both[@]}" "$SHARDQ" "${job[@]}" --out "$work/out" --resume --timeout 3
  "$@"
  let_go
  local since=$SECONDS
  wait "$job_pid" || status=$?
  [ $((SECONDS - since)) -le 15 ] || fail "the job ended only after $((SECONDS - since)) s"
  [ ! -e "$work/out" ] || fail "the job was done before it was hit"
  grep -q 'waited 3 s for other ranks in vain' "$work/err" || { cat "$work/err"; fail "$1: no message"; }
}

ranks_gone() { ! pgrep -f "^$SHARDQ quantize" >/dev/null; }

go_on() { # go_on WHAT
  for _ in $(seq 100); do ranks_gone && break || sleep 0.1; done
  ranks_gone || fail "$1: ranks still run"
  on_both --resume || { cat "$work/err"; fail "$1: resuming"; }
  same "$1"
  rm -r "$work/out" "$work/out".*
}

hit ip link set cable down
[ "$status" -ne 0 ] || fail "exit code 0 after the cable was cut"
ip link set cable up
go_on "a cut link"

freeze_far_rank() { kill -STOP "$(ip netns pids far | xargs ps -o pid=,args= -p | awk -v name="$SHARDQ" '$2 == name { print $1 }' | tail -n 1)"; }
hit freeze_far_rank
[ "$status" -eq 76 ] || { cat "$work/err"; fail "exit code $status instead of 76"; }
go_on "a frozen rank on the other host"
