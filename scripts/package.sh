#!/usr/bin/env bash
# Builds the Debian packages gvm-dp_*.deb, and gvm-dp-dpdk_*.deb with the plugin for DPDK ports.
#
#   scripts/package.sh                 builds the programs, too, unless they are in target/release
#     --binaries DIR                   take gvm-dp, gvm-pktgen, libgvm_pages.so and libgvm_dpdk.so from DIR
#     --output DIR                     put the packages there instead of into target/debian
#     --maintainer 'NAME <ADDRESS>'    who answers for the packages; else DEBFULLNAME and DEBEMAIL, as for Debian's tools, else
#                                      user.name and user.email of git, else this user at this machine
#
# Needs dpkg-dev. The files are laid out by scripts/install.sh; the scripts of the package stand in control/packaging/debian.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'package: %s\n' "$*" >&2; exit 1; }

binaries=() output=target/debian maintainer=''
while [ $# -gt 0 ]; do
    case $1 in
        --binaries) binaries=(--binaries "${2:?--binaries needs a directory}"); shift ;;
        --output) output=${2:?--output needs a directory}; shift ;;
        --maintainer) maintainer=${2:?"--maintainer needs 'NAME <ADDRESS>'"}; shift ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) printf 'package: unknown option %s\n' "$1" >&2; exit 2 ;;
    esac
    shift
done
command -v dpkg-shlibdeps >/dev/null 2>&1 || die "dpkg-shlibdeps is not here: apt-get install dpkg-dev"

release=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# The 1 is the package's own number: of the first package of a release.
version=$release-1
released=$(sed -n "s/^## $release, //p" CHANGELOG.md)
[ -n "$released" ] || die "CHANGELOG.md has no heading \"## $release, DATE\""
# Whoever builds a package answers for it: the project has no address that would reach anybody.
if [ -z "$maintainer" ]; then
    name=${DEBFULLNAME:-$(git config user.name 2>/dev/null || true)}
    address=${DEBEMAIL:-${EMAIL:-$(git config user.email 2>/dev/null || true)}}
    maintainer="${name:-$(id -un)} <${address:-$(id -un)@$(hostname -f 2>/dev/null || hostname)}>"
fi
[[ $maintainer =~ ^[^\<\>]+\ \<[^\<\>\ ]+@[^\<\>\ ]+\>$ ]] || die "--maintainer $maintainer: write it as 'NAME <ADDRESS>'"
architecture=$(dpkg --print-architecture)

work=$(mktemp -d "${TMPDIR:-/tmp}/gvm-package.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Files of a package have the usual rights, whoever makes it.
umask 022
stage=$work/stage
scripts/install.sh --root "$stage" --prefix /usr ${binaries[@]+"${binaries[@]}"}
# They are of the script: packages have a list and a configuration file of their own.
rm "$stage/usr/share/gvm-dp/installed" "$stage/usr/share/gvm-dp/gvm-dp.toml"
mkdir -p "$output"

# documents PACKAGE: licence and changes.
documents() {
    local place=$work/$1/usr/share/doc/$1
    mkdir -p "$place"
    cat >"$place/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: gvm-dp

Files: *
Copyright: ${released%%-*} The gvm-dp developers
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
END
    gzip -9nc CHANGELOG.md >"$place/changelog.gz"
    printf '%s (%s) unstable; urgency=medium\n\n  * Release %s; see changelog.gz.\n\n -- %s  %s\n' \
        "$1" "$version" "$release" "$maintainer" "$(LC_ALL=C date -u -R -d "$released")" | gzip -9nc \
        >"$place/changelog.Debian.gz"
}

# libraries FILE...: the packages with the libraries that these programs need.
libraries() {
    mkdir -p "$work/shlibdeps/debian"
    printf 'Source: gvm-dp\n\nPackage: gvm-dp\nArchitecture: any\n' >"$work/shlibdeps/debian/control"
    (cd "$work/shlibdeps" && dpkg-shlibdeps --ignore-missing-info -O "$@" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
}

# without_symbols FILE...: for those who look into a core there is the build.
without_symbols() { strip --strip-unneeded --remove-section=.comment --remove-section=.note "$@"; }

# pack PACKAGE DEPENDS RECOMMENDS SUMMARY TEXT
pack() {
    local package=$work/$1
    mkdir -p "$package/DEBIAN"
    {
        printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: %s\n' "$1" "$version" "$architecture" "$maintainer"
        printf 'Installed-Size: %s\n' "$(du -k -s --exclude=DEBIAN "$package" | cut -f 1)"
        printf 'Section: net\nPriority: optional\nDepends: %s\nRecommends: %s\nDescription: %s\n' "$2" "$3" "$4"
        fmt -w 78 <<<"$5" | sed 's/^/ /'
    } >"$package/DEBIAN/control"
    (cd "$package" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) \
        >"$package/DEBIAN/md5sums"
    dpkg-deb --root-owner-group --build "$package" "$output" >/dev/null
}

# The plugin depends on DPDK's libraries, and gvm-dp does not: so it is a package of its own.
plugin=usr/lib/gvm-dp/libgvm_dpdk.so
if [ -e "$stage/$plugin" ]; then
    install -D -m 644 "$stage/$plugin" "$work/gvm-dp-dpdk/$plugin"
    rm -r "$stage/usr/lib/gvm-dp"
fi

cp -a "$stage" "$work/gvm-dp"
# The library for applications is there if it was built.
ours=("$work"/gvm-dp/usr/bin/*)
library=$work/gvm-dp/usr/lib/libgvm_pages.so.0
[ ! -e "$library" ] || ours+=("$library")
without_symbols "${ours[@]}"
gzip -9n "$work"/gvm-dp/usr/share/man/man1/*.1
documents gvm-dp
for document in operating security troubleshooting; do
    gzip -9nc "docs/$document.md" >"$work/gvm-dp/usr/share/doc/gvm-dp/$document.md.gz"
done
mkdir "$work/gvm-dp/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 "control/packaging/debian/$script" "$work/gvm-dp/DEBIAN/$script"
done
echo /etc/gvm-dp/gvm-dp.toml >"$work/gvm-dp/DEBIAN/conffiles"
if [ -e "$library" ]; then
    # Packages of programs that are linked with it depend on this one, and the loader's cache knows it.
    echo "libgvm_pages 0 gvm-dp (>= $release)" >"$work/gvm-dp/DEBIAN/shlibs"
    echo 'activate-noawait ldconfig' >"$work/gvm-dp/DEBIAN/triggers"
fi
pack gvm-dp "$(libraries "${ours[@]}"), passwd" 'ethtool, iproute2' 'dataplane of GiantVM: gateways and slaves' \
    'A gateway merges the small records between the masters and the slaves of one large virtual machine into full packets, on
kernel-bypass NIC queues or on sockets.'

[ -e "$work/gvm-dp-dpdk/$plugin" ] || exit 0
without_symbols "$work/gvm-dp-dpdk/$plugin"
documents gvm-dp-dpdk
needs=$(libraries "$work/gvm-dp-dpdk/$plugin")
pack gvm-dp-dpdk "gvm-dp (= $version)${needs:+, $needs}" 'dpdk, librte-meta-net' 'dataplane of GiantVM: ports through DPDK' \
    'The plugin that gvm-dp loads for the ports of devices that DPDK drives.'
