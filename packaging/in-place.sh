#!/bin/sh
# Print a file of the shared directory as a package has it where programs read it:
# in-place.sh KIND FILE SHARED. The words on how to install it are left out.
set -eu
kind=$1 file=$2 shared=$3
rest() { sed '1,/^$/d' "$file"; } # all but the first paragraph
case $kind in
unit)
    sed -e '1s/ Install this file as .*//' -e '/^#   install -m /d' "$file"
    ;;
nrpe)
    printf '# check_mounts under NRPE. %s/nrpe/README.md says which of the three ways suits you.\n' "$shared"
    printf '# nrpe passes no arguments, so dont_blame_nrpe stays 0.\n\n'
    rest
    ;;
sudoers)
    # Nobody may become root because a package was installed.
    sed -e '/^# Install this file as /d' -e '/^#   visudo -cf /d' -e 's/^[a-z]* ALL=/# &/' "$file"
    ;;
conf)
    printf '# Configuration of check_mounts: remove the # before a line that you want, and try\n'
    printf '# check_mounts --check-config. Give this file mode 0600 once it holds a password.\n'
    printf '# check_mounts.conf(5) explains each line.\n\n'
    rest
    ;;
nagios-commands)
    printf '# Commands of check_mounts for Nagios 4.\n'
    printf '# Services, templates and host groups that use them are in %s/nagios.\n\n' "$shared"
    rest | sed '/^# -- templates/,$d' | sed '/^# -- commands/,/^$/d'
    ;;
nagios-rest)
    sed '/^# -- commands/,/^# -- templates/{/^# -- templates/!d}' "$file"
    ;;
*)
    echo "in-place.sh: $kind is no kind" >&2
    exit 2
    ;;
esac
