#!/usr/bin/env bash
# Installs what building and testing gvm-dp needs, and nothing that is there already. Safe to run twice.
#
#   scripts/setup.sh           everything: build, tests, benchmarks
#   scripts/setup.sh --user    only what the demo over UDP sockets needs: a compiler, clang for the XDP program, Rust
#   scripts/setup.sh --demo    that, and what the demo over NIC queues needs: iproute2, ethtool
#   scripts/setup.sh --check   installs nothing; says what is missing and fails if something is
#
# For Debian 12, Ubuntu 22.04 and newer. Root (or sudo) is needed for system packages only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What is pinned: the toolchain in rust-toolchain.toml, the rest here.
nextest_version=0.9.143
toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)

usage() { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
# rustup's cargo is there before its toolchain is.
have_cargo() { cargo --version >/dev/null 2>&1; }

full=yes namespaces=yes check=no
for argument in "$@"; do
    case $argument in
        --user) full=no namespaces=no ;;
        --demo) full=no ;;
        --check) check=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown option $argument" ;;
    esac
done

# rustup installs here; a shell that was opened before does not know yet.
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

# A clang that compiles for the kernel's BPF machine; ebpf/build.rs looks for the same ones, in this order.
find_clang() {
    local clang
    for clang in ${BPF_CLANG:-clang-19 clang-16 clang-14 clang}; do
        if have "$clang" && "$clang" --print-targets 2>/dev/null | grep -q '\bbpfel\b'; then
            printf '%s' "$clang"
            return
        fi
    done
    return 1
}

# The Linux guest of tests/guest: Debian's kernel as its package has it, unpacked by the tests and never installed.
guest_cache=${GVM_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/gvm-dp/guest}

is_debian() { grep -qx 'ID=debian' /etc/os-release 2>/dev/null; }

# Whether there is a kernel, and it is what was fetched.
has_guest_kernel() {
    compgen -G "$guest_cache/linux-image-*.deb.sha256" >/dev/null \
        && (cd "$guest_cache" && sha256sum --check --status ./*.sha256)
}

# The newest kernel of the series whose rxe the tests know.
guest_kernel_package() {
    apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-amd64-unsigned$' | cut -d ' ' -f 1 | sort -V | tail -n 1
}

fetch_guest_kernel() {
    local package fresh
    package=$(guest_kernel_package)
    if [ -z "$package" ]; then
        as_root apt-get -o DPkg::Lock::Timeout=300 update -qq || say "apt-get update failed"
        package=$(guest_kernel_package)
    fi
    [ -n "$package" ] || die "apt-get knows no linux-image-6.1.0-*-amd64-unsigned: are Debian 12's sources there?"
    say "fetching $package into $guest_cache"
    fresh=$guest_cache/fresh.$$
    mkdir -p "$fresh"
    # apt-get checks it against the archive's signed lists.
    (cd "$fresh" && apt-get download -qq "$package" 2>/dev/null && sha256sum ./*.deb >"$(ls ./*.deb).sha256") \
        || { rm -rf "$fresh"; die "failed: apt-get download $package"; }
    rm -rf "$guest_cache"/linux-image-*
    mv "$fresh"/* "$guest_cache" && rmdir "$fresh"
}

# The newest packaged clang of those that ebpf/build.rs looks for.
clang_package() {
    local version
    for version in 19 16 14; do
        if apt-cache show "clang-$version" >/dev/null 2>&1; then
            echo "clang-$version"
            return
        fi
    done
    echo clang
}

# Prints the missing system packages, one word each.
missing_packages() {
    have cc || have gcc || echo gcc
    [ -e /usr/include/stdio.h ] || [ -e /usr/include/x86_64-linux-gnu/bits/libc-header-start.h ] || echo libc6-dev
    [ -e /usr/include/linux/bpf.h ] || echo linux-libc-dev
    [ -e /usr/include/bpf/bpf_helpers.h ] || echo libbpf-dev
    find_clang >/dev/null || clang_package
    have_cargo || have rustup || have curl || { echo curl; echo ca-certificates; }
    if [ "$namespaces" = yes ]; then
        have ip || [ -x /usr/sbin/ip ] || echo iproute2
        have ethtool || [ -x /usr/sbin/ethtool ] || echo ethtool
    fi
    [ "$full" = yes ] || return 0
    have make || echo make
    have pkg-config || echo pkg-config
    # DPDK ports: headers, drivers and tools, and what reads the headers for Rust.
    [ -e /usr/include/dpdk/rte_eal.h ] || echo libdpdk-dev
    have dpdk-testpmd || { echo dpdk; echo dpdk-dev; }
    compgen -G '/usr/lib/llvm-*/lib/libclang.so' >/dev/null || echo libclang-dev
    have valgrind || echo valgrind
    # The dissector's tests: 22 MB, 40 s.
    have tshark || echo tshark
    # The packages, which a test builds.
    have dpkg-shlibdeps || echo dpkg-dev
    # Clients of a disk, and the server that it is compared with.
    have nbdkit || echo nbdkit
    have nbdcopy || echo libnbd-bin
    have fio || echo fio
    have qemu-img || echo qemu-utils
    # The linter of manual pages: 1 MB.
    have mandoc || echo mandoc
    # The guest with rxe: a virtual machine, its root, and a verbs program.
    have qemu-system-x86_64 || echo qemu-system-x86
    if [ ! -x /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then echo busybox-static; fi
    [ -e /usr/include/infiniband/verbs.h ] || echo libibverbs-dev
    compgen -G '/usr/lib/x86_64-linux-gnu/libibverbs/librxe-*.so' >/dev/null || echo ibverbs-providers
    have xz || echo xz-utils
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    local packages=$1 command="apt-get install -y --no-install-recommends $1"
    have apt-get || die "these packages are missing, and this system has no apt-get: $packages"
    if [ "$(id -u)" -ne 0 ] && ! have sudo; then
        die "not root and no sudo; as root run: apt-get update && $command"
    fi
    say "installing $packages"
    export DEBIAN_FRONTEND=noninteractive
    # Without fresh lists the names may not be known, and clang's version is chosen from them.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update -qq \
        || say "apt-get update failed; trying with the lists that are there"
    packages=$(missing_packages | sort -u | tr '\n' ' ')
    # shellcheck disable=SC2086  # A list of words.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
        --no-install-recommends $packages >/dev/null || die "failed: $command"
}

install_rust() {
    say "installing Rust $toolchain by rustup"
    if ! have rustup; then
        # What the script at sh.rustup.rs fetches, too.
        local init
        init=$(mktemp)
        curl --proto '=https' --tlsv1.2 --retry 3 -sSf -o "$init" \
            "https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init" \
            || die "cannot fetch rustup; see https://rustup.rs, then run this again"
        # Under its own name: rustup-init looks at how it is called.
        mkdir "$init.d" && mv "$init" "$init.d/rustup-init" && chmod +x "$init.d/rustup-init"
        "$init.d/rustup-init" -y --profile minimal --default-toolchain none --no-modify-path >/dev/null 2>&1 \
            || die "cannot install rustup; see https://rustup.rs, then run this again"
        rm -r "$init.d"
    fi
    rustup --quiet toolchain install "$toolchain" --profile minimal --component rustfmt --component clippy \
        --no-self-update >/dev/null \
        || die "rustup cannot install Rust $toolchain: is static.rust-lang.org reachable?"
    say "cargo is in ${CARGO_HOME:-$HOME/.cargo}/bin: add it to PATH to call it yourself"
}

# rustup follows rust-toolchain.toml by itself; a distribution's cargo does not.
if have_cargo && ! have rustup; then
    version=$(cargo --version | cut -d ' ' -f 2)
    oldest=$(printf '%s\n%s\n' "$version" "$toolchain" | sort -V | head -n 1)
    [ "$oldest" = "$toolchain" ] || die "cargo $version is older than $toolchain: remove it, or install rustup (https://rustup.rs)"
fi

packages=$(missing_packages | sort -u | tr '\n' ' ')
wants_rust=no
have_cargo || wants_rust=yes
wants_nextest=no
if [ "$full" = yes ] && ! { have_cargo && cargo nextest --version >/dev/null 2>&1; }; then
    wants_nextest=yes
fi

wants_kernel=no
if [ "$full" = yes ] && is_debian && ! has_guest_kernel; then
    wants_kernel=yes
fi

if [ -z "${packages// /}" ] && [ "$wants_rust$wants_nextest$wants_kernel" = nonono ]; then
    say "everything is there"
    exit 0
fi
say "needed and not there:"
[ -z "${packages// /}" ] || say "  system packages: $packages(about 1 minute)"
[ "$wants_rust" = no ] || say "  Rust, by rustup, in ${CARGO_HOME:-$HOME/.cargo} (about 1 minute)"
[ "$wants_nextest" = no ] || say "  cargo-nextest $nextest_version, built from source (2 to 6 minutes; cargo test does without)"
[ "$wants_kernel" = no ] || say "  a Debian kernel for the guest of the tests, in $guest_cache (70 MB)"
if [ "$check" = yes ]; then
    exit 1
fi
[ -z "${packages// /}" ] || install_packages "$packages"
[ "$wants_rust" = no ] || install_rust
if [ "$wants_nextest" = yes ]; then
    say "building cargo-nextest $nextest_version"
    # A toolchain alone, whose flags are for gateways, not for tools.
    CARGO_ENCODED_RUSTFLAGS='' cargo install -q --locked "cargo-nextest@$nextest_version" \
        || say "cargo-nextest could not be built; scripts/test.sh will use cargo test"
fi
[ "$wants_kernel" = no ] || fetch_guest_kernel
left=$(missing_packages | sort -u | tr '\n' ' ')
[ -z "${left// /}" ] || die "still missing: $left"
say "done"
