#!/bin/sh
# Build the Debian packages, source and binary, into dist/: build-deb.sh VERSION. Everything else
# happens in a directory for temporary files, because debhelper cannot work below a directory whose
# name has a space.
set -eu
cd "$(dirname "$0")/.."
version=$1
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
umask 022
mkdir -p dist
packaging/source.sh "check_mounts-$version" | gzip -9n >"$build/check-mounts_$version.orig.tar.gz"
tar -C "$build" -xf "$build/check-mounts_$version.orig.tar.gz"
cp -R packaging/debian "$build/check_mounts-$version/debian"
# -d: what is needed is here, and no compiler is.
(cd "$build/check_mounts-$version" && dpkg-buildpackage -d -us -uc)
rm -f "dist/check-mounts_$version-"*
cp "$build"/check-mounts_* dist
