#!/usr/bin/env bash
# Builds the Debian package, target/debian/gvm-dp_*.deb.
#
#   scripts/package.sh                 builds the programs, too, unless they are in target/release
#     --binaries DIR                   take gvm-dp and gvm-pktgen from DIR
#
# Needs cargo-deb: cargo install --locked cargo-deb (4 minutes on 2 cores). What is in the package, and its scripts, stand in
# control/Cargo.toml and control/packaging; the files are laid out by scripts/install.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

binaries=()
while [ $# -gt 0 ]; do
    case $1 in
        --binaries) binaries=(--binaries "${2:?--binaries needs a directory}"); shift ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) printf 'package: unknown option %s\n' "$1" >&2; exit 2 ;;
    esac
    shift
done
if ! command -v cargo-deb >/dev/null 2>&1; then
    printf 'package: cargo-deb is not installed: cargo install --locked cargo-deb\n' >&2
    exit 1
fi
# Where control/Cargo.toml looks for it.
stage=target/package
rm -rf "$stage"
mkdir -p target
scripts/install.sh --root "$stage" --prefix /usr ${binaries[@]+"${binaries[@]}"}
cargo deb --package gvm-dp --no-build --no-strip --output target/debian/
