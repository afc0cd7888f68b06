#!/bin/sh
# Build the RPM packages, source and binary, into dist/: build-rpm.sh VERSION [WORD...]. The words go
# to rpmbuild: `--with bundled` needs the wheel of nagiosplugin, in the directory that WHEELS names.
set -eu
cd "$(dirname "$0")/.."
version=$1
shift
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
umask 022
mkdir -p dist "$build/SOURCES"
packaging/source.sh "check_mounts-$version" | gzip -9n >"$build/SOURCES/check_mounts-$version.tar.gz"
cp packaging/check_mounts.spec "$build"
[ -z "${WHEELS:-}" ] || cp "$WHEELS"/nagiosplugin-*.whl "$build/SOURCES"
# On Debian, rpm has no list of what is installed, and its script that compresses manuals wants bash.
[ ! -e /etc/debian_version ] || set -- --nodeps --dbpath "$build/db" --define '__os_install_post %{nil}' "$@"
# Two steps: the source package has the paths of its build in it. These are the same everywhere.
(
    cd "$build"
    rpmbuild -bs --quiet --define '_topdir .' "$@" check_mounts.spec
)
rpmbuild -bb --quiet --define "_topdir $build" "$@" "$build/check_mounts.spec"
rm -f "dist/check_mounts-$version-"*.rpm
cp "$build"/RPMS/noarch/*.rpm "$build"/SRPMS/*.rpm dist
