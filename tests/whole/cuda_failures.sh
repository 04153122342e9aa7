#!/usr/bin/env bash
# A rank that takes no part in a collective of devices, those of the stand-in for CUDA, ends the job with one message and its exit
# code. The others need not hear of it by NCCL, as on one node; or they do, as across a network, and let that rank speak.
. "$(dirname "$0")/common.sh"
: "${NCCL_FAILURES:?}"
export OMPI_MCA_btl_vader_backing_directory=$work # what a killed mpirun leaves goes with the rest

ranks_of() { pgrep -f "^$NCCL_FAILURES " || true; }

# ends STATUS RANKS CASE [TEXT]: within half a minute; TEXT is in the message, without it there is none
ends() {
  local status=0
  timeout 30 mpirun -n "$2" "$NCCL_FAILURES" "$3" </dev/null 2>"$work/err" || status=$?
  [ "$status" -eq "$1" ] || { cat "$work/err"; fail "exit code $status instead of $1: $3 on $2 ranks, $link"; }
  if [ $# -eq 4 ]; then
    expect_message "$4"
  elif grep '^shardq: error: ' "$work/err"; then
    fail "a message from a rank that should leave the word to the launcher: $3 on $2 ranks, $link"
  fi
  for _ in $(seq 100); do [ -z "$(ranks_of)" ] || sleep 0.1; done
  [ -z "$(ranks_of)" ] || fail "ranks still run: $3 on $2 ranks, $link"
}

for link in node network; do
  [ $link = node ] || export CUDASIM_LOST=seen
  for ranks in 2 3; do
    last="[rank $((ranks - 1))]"
    ends 1 $ranks join "$last NCCL: joining a communicator: unhandled system error"
    ends 1 $ranks sum "$last NCCL: a sum over ranks: unhandled system error"
    ends 1 $ranks reduce "$last NCCL: a sum on one rank: unhandled system error"
    ends 1 $ranks gather "$last NCCL: gathering: unhandled system error"
    ends 1 $ranks broadcast "$last NCCL: a broadcast: unhandled system error"
    ends 1 $ranks exchange "$last NCCL: an exchange: unhandled system error"
    ends 1 $ranks factor "$last NCCL: a broadcast: unhandled system error"
    ends 1 $ranks mark "$last CUDA: creating an event"
    ends 1 $ranks wait "$last CUDA: gathering"
    ends 137 $ranks die
  done
  # who is lost says nothing; the other one does
  case $link in
    node) ends 76 2 lose "[rank 0] waited 3 s for other ranks in vain: a sum over ranks" ;;
    network) ends 76 2 lose "[rank 0] NCCL: a sum over ranks: remote process exited or there was a network error" ;;
  esac
done
