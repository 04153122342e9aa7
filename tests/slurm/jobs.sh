#!/usr/bin/env bash
# The job scripts on a real Slurm: two nodes end to end, a time limit, a killed rank, a killed slurmd, a cancelled job,
# mpirun, devices, salloc; each result has the bytes of an undisturbed run.
. "$(dirname "$0")/../namespaces.sh"
. "$(dirname "$0")/../whole/common.sh"
. "$(dirname "$0")/cluster.sh"
scripts=$(cd "$(dirname "$0")/../../slurm" && pwd)
: "${HOLD:?}"
export CHECK_MB=1
cd "$work"
start_cluster
echo "Slurm is up after $SECONDS s"

tokens "$work/tokens" 1024 64 "$(vocabulary llama)" 7
tokens "$work/few" 16 64 "$(vocabulary llama)" 8
job=(--model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1 --state-seconds 0)

# What the jobs run: the program, which stops at the first flush of its second block while there is a file "hold".
# A block flushes its layers, then the state and its header.
program=$SHARDQ
export SHARDQ=$work/shardq
cat >"$SHARDQ" <<END
#!/bin/sh
HOLD_FILE=$work/hold HOLD_AT=4 LD_PRELOAD=$HOLD exec $program "\$@"
END
chmod +x "$SHARDQ"

# submit NAME OPTION... -- SCRIPT ARGUMENT...: sets id; what the job says is in NAME.log
submit() {
  local name=$1 options=()
  shift
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  id=$(sbatch --parsable --output="$work/$name.log" "${options[@]}" "$scripts/$1" "${@:2}") || fail "sbatch refused $name"
}

quantize_on() { submit "$1" --nodes=2 "${@:2}" -- quantize-cpu.sbatch "${job[@]}" --out "$work/$1"; } # NAME OPTION...

says() { grep -qs -- "$2" "$work/$1.log"; } # says NAME TEXT

show() { # show NAME: what is known when a job did not do what it should
  echo "--- $1.log"
  cat "$work/$1.log"
  squeue
  tail -n 20 "$cluster/log/slurmctld"
}

ends() { # ends NAME ID SECONDS: with this result
  await "$3" is_state "$2" COMPLETED || { show "$1"; fail "$1: $(job_state "$2") after $SECONDS s"; }
}

same_result() { # same_result NAME
  cmp "$work/whole.store.h5" "$work/$1.store.h5" || fail "$1: the store differs"
  same_folder "$work/whole" "$work/$1"
}

ranks_of() { pgrep -f "^$program quantize.*--out $work/$1( |\$)"; } # ranks_of NAME
is_held() { says "$1" '^block' && ps -o stat= -p "$(ranks_of "$1" | tr '\n' ,)1" | grep -q '^T'; } # is_held NAME

# submit_held NAME OPTION...: stops all ranks of this job after its first block, as if it would go on for hours.
submit_held() {
  : >"$work/hold"
  quantize_on "$@"
  await 20 is_held "$1" || { show "$1"; fail "$1 does not run"; }
  mapfile -t held < <(ranks_of "$1")
  [ ${#held[@]} -eq 2 ] || fail "$1: ${#held[@]} ranks instead of 2"
  kill -STOP "${held[@]}"
  ! says "$1" '^wrote' || fail "$1 was done before it could be stopped"
}

# --- two nodes, end to end; then the same again, and what depends on it ---

quantize_on whole
whole_id=$id
submit eval --dependency=afterok:"$whole_id" --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 --gpus-per-node=1 -- \
  eval.sbatch --model "$work/whole" --tokens "$work/few" --backend cpu
eval_id=$id
ends whole "$whole_id" 30
ends eval "$eval_id" 30
says whole '2 ranks of 1 thread' || { show whole; fail "not two ranks"; }
says eval perplexity || { show eval; fail "no perplexity"; }
quantize_on whole
ends whole "$id" 20
says whole 'nothing to do' || { show whole; fail "a finished job did something"; }
echo "end to end: after $SECONDS s"

# --- the time limit, and a slurmd that is killed: both are waited for below ---

submit_held limit --time=1 --signal=B:USR1@50 --nodelist="node[1-2]"
limit_id=$id
limit_ranks=("${held[@]}")

submit_held node --nodelist="node[3-4]"
node_id=$id
kill -9 "$(cat "$cluster/node4.pid")"
kill -CONT "${held[0]}" # the ranks of the dead node stay as they are: it has gone

# --- meanwhile: a killed rank, a cancelled job, mpirun, devices, an assembly, salloc ---

submit_held rank --nodelist="node[5-6]"
rank_id=$id
kill -9 "${held[1]}"
ends rank "$rank_id" 40
says rank 'ranks were lost (exit code 137, time 1 of 3)' || { show rank; fail "the lost rank was not seen"; }
[ "$(restarts "$rank_id")" -eq 1 ] || { show rank; fail "$(restarts "$rank_id") restarts"; }
scontrol show job "$rank_id" | grep -q 'Comment=shardq lost ranks: 1' || { show rank; fail "the loss was not counted"; }
same_result rank
echo "a killed rank: after $SECONDS s"

submit_held cancelled --nodelist="node[5-6]"
scancel "$id"
kill -CONT "${held[@]}" 2>/dev/null || true
await 20 is_state "$id" CANCELLED || { show cancelled; fail "a cancelled job is $(job_state "$id")"; }

SHARDQ_LAUNCHER=mpirun quantize_on mpirun --nodelist="node[5-6]"
ends mpirun "$id" 30
same_result mpirun

submit gpus --nodes=2 --nodelist="node[5-6]" --ntasks-per-node=2 --gpus-per-node=2 --cpus-per-task=1 -- \
  quantize.sbatch "${job[@]}" --backend cpu --out "$work/gpus"
ends gpus "$id" 30
says gpus '4 ranks of 1 thread' || { show gpus; fail "not four ranks"; }
same_result gpus

# each rank of a node sees all its devices, however they were asked for: Slurm names both, or leaves them all to it
cat >"$work/look" <<'END'
#!/bin/sh
echo "number $SLURM_LOCALID of $SLURMD_NODENAME has $SLURM_GPUS_ON_NODE devices and sees ${CUDA_VISIBLE_DEVICES:-0,1}"
END
chmod +x "$work/look"
for asked in --gpus-per-node=2 "--gpus-per-node=2 --gpus-per-task=1"; do
  # shellcheck disable=SC2086 # two words
  SHARDQ=$work/look submit look --nodes=2 --nodelist="node[5-6]" --ntasks-per-node=2 $asked --cpus-per-task=1 -- quantize.sbatch
  ends look "$id" 20
  for rank in "0 of node5" "1 of node5" "0 of node6" "1 of node6"; do
    says look "number $rank has 2 devices and sees 0,1" || { show look; fail "$asked: rank $rank does not see both devices"; }
  done
  rm "$work/look.log"
done

submit assembled --nodes=1 --nodelist=node6 --ntasks-per-node=2 --cpus-per-task=1 -- \
  assemble.sbatch --store "$work/whole.store.h5" --out "$work/assembled"
ends assembled "$id" 30
same_folder "$work/whole" "$work/assembled"

salloc --nodes=2 --nodelist="node[5-6]" --ntasks-per-node=2 "$scripts/check.sh" "$work" >"$work/check.log" 2>&1 ||
  { cat "$work/check.log"; fail "check.sh found something"; }
grep -q ' 2 node5: rank with' "$work/check.log" || { cat "$work/check.log"; fail "no ranks in it"; }
grep -q '^network: \[[0-9.]*e' "$work/check.log" || { cat "$work/check.log"; fail "no link among nodes in it"; }
salloc --nodes=2 --nodelist="node[5-6]" --ntasks-per-node=1 "$scripts/quantize-cpu.sbatch" "${job[@]}" --out "$work/allocated" \
  >"$work/allocated.log" 2>&1 || { show allocated; fail "quantizing inside an salloc"; }
same_result allocated
echo "mpirun, devices, assembly, salloc: after $SECONDS s"

# --- the killed slurmd: Slurm gives the node up and puts the job back, which goes on when the node is there again ---

given_up() { [ "$(restarts "$node_id")" -gt 0 ]; }
await 60 given_up || { show node; sinfo -N; fail "the job of a dead node was not put back"; }
start_node 4
ends node "$node_id" 60
same_result node
echo "a killed slurmd: after $SECONDS s"

# --- the time limit: asked to stop, stopped, put back, gone on, done ---

await 60 says limit 'asked the ranks to stop' || { show limit; fail "no signal before the time limit"; }
kill -CONT "${limit_ranks[@]}"
# Slurm looks at limits every 30 s and may send the signal that much too early, so to the next start at once: more time for it
await 40 says limit 'the job is back in the queue' || { show limit; fail "not put back"; }
scontrol update JobId="$limit_id" TimeLimit=10
ends limit "$limit_id" 40
says limit 'stopped at a safe point' || { show limit; fail "not stopped at a safe point"; }
[ "$(restarts "$limit_id")" -eq 1 ] || { show limit; fail "$(restarts "$limit_id") restarts"; }
same_result limit
echo "the time limit: after $SECONDS s"
