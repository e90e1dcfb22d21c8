#!/usr/bin/env bash
# Builds the Debian packages: target/debian/gvm-dp_*.deb, and gvm-dp-dpdk_*.deb with the plugin for DPDK ports.
#
#   scripts/package.sh                 builds the programs, too, unless they are in target/release
#     --binaries DIR                   take gvm-dp, gvm-pktgen and libgvm_dpdk.so from DIR
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

# The plugin depends on DPDK's libraries, and gvm-dp does not: so it is a package of its own.
plugin=usr/lib/gvm-dp/libgvm_dpdk.so
[ -e "$stage/$plugin" ] || exit 0
version=$(dpkg-deb --field "$(ls -t target/debian/gvm-dp_*.deb | head -n 1)" Version)
libraries=$(ldd "$stage/$plugin" | sed -n 's/.*=> \(.*librte_[^ ]*\) .*/\1/p' | while read -r library; do
    dpkg-query --search "*/$(basename "$library")" | sed 's/:.*//'
done | sort -u)
dpdk=target/package-dpdk
rm -rf "$dpdk"
install -D -m 644 "$stage/$plugin" "$dpdk/$plugin"
mkdir "$dpdk/DEBIAN"
{
    printf 'Package: gvm-dp-dpdk\nVersion: %s\nArchitecture: %s\n' "$version" "$(dpkg --print-architecture)"
    printf 'Maintainer: The gvm-dp developers <gvm-dp@localhost>\nSection: net\n'
    printf 'Depends: gvm-dp (= %s)' "$version"
    printf ', %s' $libraries
    printf '\nRecommends: dpdk, librte-meta-net\n'
    printf 'Description: gvm-dp: ports through DPDK\n The plugin that gvm-dp loads for dpdk: ports.\n'
} >"$dpdk/DEBIAN/control"
dpkg-deb --root-owner-group --build "$dpdk" target/debian/ >/dev/null
