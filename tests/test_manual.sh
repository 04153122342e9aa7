#!/usr/bin/env bash
# The manual pages: without a complaint from mandoc and groff, and where `cmake --install` puts them. Exit code 77: neither
# is there. BUILD: the build folder.
set -euo pipefail
: "${BUILD:?}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tried=0 pages=("$BUILD"/man/man?/shardq*)
[ ${#pages[@]} -gt 15 ] || { echo "only ${#pages[@]} pages: ${pages[*]}" && exit 1; }
for page in "${pages[@]}"; do
  if command -v mandoc >/dev/null; then
    mandoc -T lint -W warning "$page" >"$work/said" || { cat "$work/said" && exit 1; }
    tried=1
  fi
  if command -v groff >/dev/null; then
    groff -man -Tutf8 -Kutf8 -ww "$page" 2>"$work/said" >"$work/shown"
    [ ! -s "$work/said" ] && [ -s "$work/shown" ] || { cat "$work/said" && exit 1; }
    tried=1
  fi
done
cmake --install "$BUILD" --prefix "$work/installed" >"$work/said" || { cat "$work/said" && exit 1; }
for file in bin/shardq share/man/man1/shardq.1 share/man/man1/shardq-quantize.1 share/man/man7/shardq-method.7 \
  share/bash-completion/completions/shardq share/zsh/site-functions/_shardq share/shardq/tokenize.py; do
  [ -s "$work/installed/$file" ] || { echo "not installed: $file" && exit 1; }
done
"$work/installed/bin/shardq" tokenize --help >"$work/said"
[ $tried -eq 1 ] || exit 77
