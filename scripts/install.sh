#!/usr/bin/env bash
# Installs gvm-dp, upgrades it in place, or removes it. Safe to run twice.
#
#   scripts/install.sh                 into /usr/local, configuration in /etc/gvm-dp; needs root
#     --prefix DIR                     instead of /usr/local
#     --root DIR                       put DIR before every path, and touch nothing outside it: for packages and tests
#     --binaries DIR                   take gvm-dp (and what belongs to it and is there) from DIR, and build nothing
#     --no-restart                     leave a running gateway alone; it goes on with the program that it has
#   scripts/install.sh --uninstall     remove it; the configuration stays
#     --purge                          with --uninstall: the configuration goes, too; keys stay
#
# Installs programs, the library for applications (libgvm_pages.so, header, pkg-config file), unit, configuration, manual
# pages, completions (bash, zsh, fish) and dashboards. A configuration that was changed is never overwritten. Nothing is
# started that did not run; a gateway that runs as a unit is restarted: it hands over all it holds, and the new one has
# its nodes back within two heartbeat intervals.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
say() { printf 'install: %s\n' "$*"; }
die() { printf 'install: %s\n' "$*" >&2; exit 1; }

root='' prefix=/usr/local binaries='' restart=yes uninstall=no purge=no
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) prefix=${2:?--prefix needs a directory}; shift ;;
        --root) root=${2:?--root needs a directory}; shift ;;
        --binaries) binaries=${2:?--binaries needs a directory}; shift ;;
        --no-restart) restart=no ;;
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; printf 'install: unknown option %s\n' "$1" >&2; exit 2 ;;
    esac
    shift
done
case $prefix in /*) ;; *) die "--prefix $prefix: write it as an absolute path, such as /usr/local" ;; esac
[ "$purge" = no ] || [ "$uninstall" = yes ] || die "--purge belongs to --uninstall"
prefix=${prefix%/}
root=${root%/}
if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    die "installing into $prefix and /etc needs root: sudo scripts/install.sh, or --root DIR"
fi

etc=/etc/gvm-dp
config=$etc/gvm-dp.toml
share=$prefix/share/gvm-dp
# What was installed, and which directories were made for it.
manifest=$share/installed
# The configuration as it was shipped: whoever changed theirs has another one.
shipped=$share/gvm-dp.toml
zsh=$prefix/share/zsh/site-functions
[ "$prefix" != /usr ] || zsh=/usr/share/zsh/vendor-completions

# Whether this machine's systemd is to hear of it.
systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

work=$(mktemp -d "${TMPDIR:-/tmp}/gvm-install.XXXXXX")
trap 'rm -rf "$work"' EXIT

remember() { grep -qxF "$1" "$work/installed" || printf '%s\n' "$1" >>"$work/installed"; }

# Makes a directory with its parents, and remembers those that were not there.
directory() {
    [ -d "$root$1" ] && return
    directory "$(dirname "$1")"
    mkdir -m 755 "$root$1"
    remember "directory $1"
}

# put MODE FILE PATH: whole or not at all, also in the place of a program that runs.
put() {
    directory "$(dirname "$3")"
    install -m "$1" "$2" "$root$3.new"
    mv -f "$root$3.new" "$root$3"
    remember "file $3"
}

# link TARGET PATH: a symbolic link.
link() {
    directory "$(dirname "$2")"
    ln -sfn "$1" "$root$2"
    remember "file $2"
}

# The directory of the configuration goes with its last file, whoever made it.
remove_etc() {
    rmdir "$root$etc" 2>/dev/null || true
    [ -z "$root" ] || rmdir "$root/etc" 2>/dev/null || true
    [ ! -d "$root$etc" ] || say "$etc stays: it holds keys or other files of yours"
}

uninstall() {
    local kind path
    if [ ! -e "$root$manifest" ]; then
        # An earlier --uninstall left the configuration.
        if [ "$purge" = yes ] && [ -e "$root$config" ]; then
            rm -f "$root$config"
            remove_etc
            say "removed the configuration that an earlier --uninstall left"
            return
        fi
        die "nothing of gvm-dp is installed in $root$prefix"
    fi
    if systemd && systemctl --quiet is-enabled gvm-dp 2>/dev/null || systemd && systemctl --quiet is-active gvm-dp; then
        say "stopping gvm-dp: it drains"
        systemctl disable --now gvm-dp
    fi
    cp "$root$manifest" "$work/installed"
    if [ "$purge" = yes ]; then
        rm -f "$root$config"
    elif [ -e "$root$config" ]; then
        say "$config stays; --purge removes it"
    fi
    while read -r kind path; do
        [ "$kind" != file ] || rm -f "$root$path"
    done <"$work/installed"
    rm -f "$root$manifest"
    # The last made is the innermost. Those that others use by now stay.
    tac "$work/installed" | while read -r kind path; do
        [ "$kind" != directory ] || rmdir "$root$path" 2>/dev/null || true
    done
    [ "$purge" = no ] || remove_etc
    ! systemd || systemctl daemon-reload
    if [ -z "$root" ] && getent passwd gvm-dp >/dev/null; then
        say "the user gvm-dp stays: userdel gvm-dp removes it"
    fi
    say "removed"
}

if [ "$uninstall" = yes ]; then
    uninstall
    exit 0
fi

if [ -z "$binaries" ]; then
    binaries=${CARGO_TARGET_DIR:-target}/release
    if [ ! -x "$binaries/gvm-dp" ]; then
        say "there is no $binaries/gvm-dp: building it (some minutes)"
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        scripts/setup.sh --user
        cargo build --locked --release -p gvm-dp -p gvm-pktgen --bins
        # For applications that use remote memory.
        cargo build --locked --release -p gvm-pages-c
        # For DPDK ports; empty without DPDK's headers, and says so.
        cargo build --locked --release -p gvm-dpdk-plugin
    fi
fi
[ -x "$binaries/gvm-dp" ] || die "there is no program $binaries/gvm-dp"

mkdir -p "$root/"
if [ -e "$root$manifest" ]; then
    say "upgrading the one that is installed"
    cp "$root$manifest" "$work/before"
else
    : >"$work/before"
fi
grep '^directory ' "$work/before" >"$work/installed" || true

say "installing into $root$prefix"
put 755 "$binaries/gvm-dp" "$prefix/bin/gvm-dp"
[ ! -x "$binaries/gvm-pktgen" ] || put 755 "$binaries/gvm-pktgen" "$prefix/bin/gvm-pktgen"
[ ! -e "$binaries/libgvm_dpdk.so" ] || put 644 "$binaries/libgvm_dpdk.so" "$prefix/lib/gvm-dp/libgvm_dpdk.so"
# The library for applications that use remote memory, with what compiling them needs.
if [ -e "$binaries/libgvm_pages.so" ]; then
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    put 644 "$binaries/libgvm_pages.so" "$prefix/lib/libgvm_pages.so.0"
    link libgvm_pages.so.0 "$prefix/lib/libgvm_pages.so"
    put 644 dataplane/pages-c/include/gvm_pages.h "$prefix/include/gvm_pages.h"
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@VERSION@|$version|g" dataplane/pages-c/gvm-pages.pc.in >"$work/pc"
    put 644 "$work/pc" "$prefix/lib/pkgconfig/gvm-pages.pc"
    put 644 dataplane/pages-c/examples/pages.c "$share/examples/pages.c"
    # Programs find the library where the system's loader looks.
    [ -n "$root" ] || ! command -v ldconfig >/dev/null 2>&1 || ldconfig
fi
gvm_dp=$root$prefix/bin/gvm-dp

mkdir "$work/man"
"$gvm_dp" man --out "$work/man"
generator=$root$prefix/bin/gvm-pktgen
[ ! -x "$generator" ] || "$generator" --man "$work/man"
for page in "$work/man"/*.1; do
    put 644 "$page" "$prefix/share/man/man1/${page##*/}"
done
# completions PROGRAM COMMAND...: the command prints the script of the shell that is named behind it.
completions() {
    local program=$1 shell
    shift
    for shell in bash zsh fish; do
        "$@" "$shell" >"$work/$shell"
    done
    put 644 "$work/bash" "$prefix/share/bash-completion/completions/$program"
    put 644 "$work/zsh" "$zsh/_$program"
    put 644 "$work/fish" "$prefix/share/fish/vendor_completions.d/$program.fish"
}
completions gvm-dp "$gvm_dp" completion
[ ! -x "$generator" ] || completions gvm-pktgen "$generator" --completion

for unit in gvm-dp.service gvm-dp-slave.service gvm-dp-master.service gvm-dp-disk.service; do
    sed -e "s|@BIN@|$prefix/bin|g" -e 's|@ETC@|/etc|g' "control/packaging/$unit" >"$work/unit"
    put 644 "$work/unit" "$prefix/lib/systemd/system/$unit"
done
put 644 control/packaging/gvm-dp.sysusers "$prefix/lib/sysusers.d/gvm-dp.conf"
for dashboard in docs/grafana/*.json; do
    [ ! -e "$dashboard" ] || put 644 "$dashboard" "$share/grafana/${dashboard##*/}"
done
put 644 docs/prometheus/gvm-dp.rules.yml "$share/prometheus/gvm-dp.rules.yml"
for dissector in docs/wireshark/*.lua; do
    [ ! -e "$dissector" ] || put 644 "$dissector" "$share/wireshark/${dissector##*/}"
done

"$gvm_dp" config example >"$work/gvm-dp.toml"
directory "$etc"
if [ ! -e "$root$config" ]; then
    install -m 644 "$work/gvm-dp.toml" "$root$config"
elif [ -e "$root$shipped" ] && cmp -s "$root$shipped" "$root$config"; then
    # Nobody changed it.
    install -m 644 "$work/gvm-dp.toml" "$root$config"
elif ! cmp -s "$work/gvm-dp.toml" "$root$config"; then
    say "$config was changed and stays; the one of this version is $shipped"
fi
put 644 "$work/gvm-dp.toml" "$shipped"
remember "file $manifest"
install -m 644 "$work/installed" "$root$manifest"
# What an older version had and this one has not.
grep '^file ' "$work/before" | grep -vxFf "$work/installed" | while read -r _ path; do
    rm -f "$root$path"
done || true

# The user that the service runs as, and whose group reads the keys: also where somebody else starts gvm-dp.
if [ -z "$root" ] && ! getent passwd gvm-dp >/dev/null; then
    if command -v systemd-sysusers >/dev/null 2>&1; then
        systemd-sysusers "$prefix/lib/sysusers.d/gvm-dp.conf"
    else
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gvm-dp
    fi
    say "made the user gvm-dp"
fi
if systemd; then
    systemctl daemon-reload
    if ! systemctl --quiet is-active gvm-dp; then
        say "edit the port in $config, then: systemctl enable --now gvm-dp"
    elif [ "$restart" = yes ]; then
        say "restarting gvm-dp: the old one drains, then the new one starts"
        systemctl restart gvm-dp
    else
        say "gvm-dp runs and was not restarted: systemctl restart gvm-dp takes the new one"
    fi
else
    say "done; a gvm-dp that runs goes on with the program that it has: gvm-dp drain, then start it again"
fi
