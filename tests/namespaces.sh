# shellcheck shell=bash
# Sourced first: the script goes on in namespaces of its own for processes, mounts and the network. All ports are free there,
# and everything that it started ends with it, whatever happens. Exit code 77 with the reason where that cannot be.
skip() {
  echo "skipped: $*"
  exit 77
}

need_programs() { # need_programs PACKAGES PROGRAM...
  local program packages=$1
  for program in "${@:2}"; do
    command -v "$program" >/dev/null || skip "there is no $program (Debian: $packages)"
  done
}

if [ "${SHARDQ_TEST_NAMESPACES-}" != "$PPID" ]; then
  [ "$(id -u)" -eq 0 ] || skip "only root can make namespaces"
  need_programs "util-linux iproute2" unshare ip
  unshare --pid --net --mount --fork true 2>/dev/null || skip "no namespaces can be made here"
  export SHARDQ_TEST_NAMESPACES=0 # the parent of a first process, as it sees it
  exec unshare --pid --net --mount-proc --fork --kill-child "$0" "$@"
fi
ip link set lo up

# To be called before the files of a test are removed: ends all processes of this namespace but the script.
end_processes() {
  exec 2>/dev/null # without bash's words on killed jobs
  [ $$ -ne 1 ] || kill -9 -1 || true
}
