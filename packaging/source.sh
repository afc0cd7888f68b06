#!/bin/sh
# Print a tar archive of the sources, the same for the same files: source.sh DIRECTORY. DIRECTORY is
# the one in the archive. The times are those of the last release in packaging/debian/changelog,
# unless SOURCE_DATE_EPOCH says otherwise.
set -eu
directory=$1
cd "$(dirname "$0")/.."
epoch=${SOURCE_DATE_EPOCH:-$(date -d "$(sed -n 's/^ -- .*>  //p' packaging/debian/changelog | head -n 1)" +%s)}
files() {
    # git refuses the checkout of another user, and an archive has no .git.
    git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
        find . \( -name __pycache__ -o -name '.?*_cache' -o -name '*.egg-info' -o -path ./.git -o -path ./.venv -o -path ./.hypothesis \
            -o -path ./build -o -path ./dist \) -prune -o \( -type f -o -type l \) -printf '%P\0'
}
files | LC_ALL=C sort -zu |
    tar -c --no-recursion --ignore-failed-read --transform "flags=r;s,^,$directory/," --format=gnu --mtime="@$epoch" \
        --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --null -T -
