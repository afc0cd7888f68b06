"""Completion for fish (3.1 or later)."""

from __future__ import annotations

from check_mounts.completion import offers
from check_mounts.completion.offers import Offer

_SCRIPT = r"""# fish completion for check_mounts; made by `check_mounts --completion fish`
#
# It asks no mount: mount points come from the text of /proc/self/mountinfo. So it never has fish
# complete files (that would ask each), and lists directories of local filesystems only. (fish itself
# looks at paths that are typed, in the background, to show whether they exist.)

# A field of all mounts, by its pattern. A line feed or tab cannot be part of what fish offers.
function __check_mounts_fields
    set -l fields (string replace -rf -- $argv[1] '$1' < /proc/self/mountinfo | string match -rv '\\\\01[12]')
    test (count $fields) -gt 0
    and printf '%b\n' (string replace -a -- '\\' '\\0' $fields)
end

function __check_mounts_points
    __check_mounts_fields '^\S+ \S+ \S+ \S+ (\S+) .*$'
end

# What is typed of the value at the cursor.
function __check_mounts_typed
    string replace -r -- '^--[^=]*=' '' (commandline -ct)
end

# Whether the directory can be looked at: it is on a local filesystem, and no link leads away.
function __check_mounts_local
    set -l path $argv[1]
    string match -q '/*' -- $path
    or set path $PWD/$path
    string match -q '*/../*' -- /$path/
    and return 1
    set -l type
    set -l longest -1
    for line in (string replace -rf -- '^\S+ \S+ \S+ \S+ (\S+) .* - (\S+) .*$' '$1 $2' < /proc/self/mountinfo)
        set -l fields (string split ' ' -- $line)
        set -l point (printf '%b' (string replace -a -- '\\' '\\0' $fields[1]) | string collect)
        set point (string replace -r -- '/$' '' $point)
        set -l size (string length -- $point)
        if test $size -ge $longest
            and test (string sub -l (math $size + 1) -- (string replace -r -- '/?$' '/' $path)) = "$point/"
            set type $fields[2]
            set longest $size
        end
    end
    contains -- "$type" @LOCAL@
    or return 1
    set -l part ''
    for name in (string split / -- (string trim -c / -- $path))
        set part $part/$name
        test -L $part
        and return 1
    end
    return 0
end

# Files that begin with what is typed behind the text $argv[1]; with -d, directories.
function __check_mounts_files
    set -l front "$argv[1]"
    set -l typed (string sub -s (math (string length -- "$front") + 1) -- (__check_mounts_typed))
    set -l directory (string replace -rf -- '^(.*/).*$' '$1' "$typed")
    set -l where "$directory"
    test -n "$where"
    or set where .
    __check_mounts_local $where
    or return
    set -l points (__check_mounts_points)
    for name in "$directory"*
        set -l path $name
        string match -q '/*' -- $path
        or set path $PWD/$path
        if contains -- $path $points
            or begin not test -L $name; and test -d $name; end
            echo -- "$front$name/"
        else if test "$argv[2]" != -d
            echo -- "$front$name"
        end
    end
end

function __check_mounts_directories
    __check_mounts_files '' -d
end

# The lines of a file that can be read without waiting.
function __check_mounts_lines
    __check_mounts_local $argv[1]
    and test -f $argv[1] -a -r $argv[1]
    and string match -r -- '.*' < $argv[1]
end

# The names of sections [KIND "NAME"] in the configuration.
function __check_mounts_sections
    __check_mounts_lines @CONFIG@ | string replace -rf -- '^\s*\['$argv[1]'\s+"(.*)"\]\s*$' '$1' |
        string replace -ar -- '\\\\(.)' '$1'
end

function __check_mounts_mounts
    __check_mounts_points
    __check_mounts_sections mount
end

function __check_mounts_sources
    __check_mounts_fields '^.* - \S+ (\S+) .*$'
end

# Each word of $argv behind the part of the value that is typed up to the last comma.
function __check_mounts_listed
    set -l front (string replace -rf -- '^(.*,).*$' '$1' (__check_mounts_typed))
    printf '%s\n' "$front"$argv
end

function __check_mounts_types
    set -l front (string replace -rf -- '^(.*,).*$' '$1' (__check_mounts_typed))
    for type in (string replace -r -- '^.*\t' '' < /proc/filesystems) (__check_mounts_fields '^.* - (\S+) .*$')
        echo -- "$front$type"
    end
end

function __check_mounts_severities
    set -l front (string replace -rf -- '^(.*,).*$' '$1' (__check_mounts_typed))
    for condition in @CONDITIONS@
        for state in @STATES@
            echo -- "$front$condition=$state"
        end
    end
end

function __check_mounts_steps
    printf '%s=\n' @STEPS@
end

function __check_mounts_users
    printf '%s\n' owner self
    __check_mounts_lines /etc/passwd | string replace -r -- ':.*' ''
end

function __check_mounts_destinations
    __check_mounts_sections submit
    printf '%s\n' @SCHEMES@
end

function __check_mounts_extra_opts
    set -l front (string replace -rf -- '^(.*@).*$' '$1' (__check_mounts_typed))
    if test -n "$front"
        __check_mounts_files $front
        return
    end
    for file in $MP_CONFIG_FILE @INI@
        set -l lines (__check_mounts_lines $file)
        if test (count $lines) -gt 0
            string replace -rf -- '^\s*\[\s*([^]"]*[^]"\s])\s*\].*$' '$1' $lines
            return
        end
    end
end

# Whether an option is offered. Arguments: may it be given again (again, once, or value: once, with a
# value in the next word), its names, then
# "needs" with names of which one must be given, and "excludes" with names of which none may.
function __check_mounts_offers
    set -l given (commandline -opc)[2..-1]
    contains -- -- $given
    and return 1
    # Its value is what is completed.
    if test $argv[1] = value
        and contains -- "$given[-1]" $argv[2..3]
        set -e given[-1]
    end
    set given (string replace -r -- '=.*' '' $given)
    set -l part names
    set -l needed ''
    for word in $argv[2..-1]
        switch $word
            case needs
                set part needs
                set needed missing
            case excludes
                set part excludes
            case '*'
                if contains -- $word $given
                    switch "$part"
                        case needs
                            set needed ''
                        case excludes
                            return 1
                        case '*'
                            test $argv[1] = again
                            or return 1
                    end
                end
        end
    end
    test -z "$needed"
end

for command in check_mounts check_mounts.pyz
    complete -c $command -f -a '(__check_mounts_points)' -d 'mount point'
@COMMANDS@
end
"""


def script() -> str:
    """The script for fish."""
    return offers.filled(_SCRIPT, COMMANDS="\n".join(f"    {_command(offer)}" for offer in offers.offers()))


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _command(offer: Offer) -> str:
    words = [f"complete -c $command -l {offer.long[2:]}"]
    if offer.short:
        words.append(f"-s {offer.short[1:]}")
    times = "again" if offer.repeatable else "value" if offer.kind and not offer.optional else "once"
    condition = ["__check_mounts_offers", times, offer.long, offer.short]
    for name, others in (("needs", offer.needs), ("excludes", offer.excludes)):
        condition += [name, *others] if others else []
    words.append(f"-n {_quoted(' '.join(filter(None, condition)))}")
    if offer.kind:
        words.append("-f" if offer.optional else "-x")
        words += [f"-a {_quoted(values)}" for values in filter(None, [_values(offer)])]
    words.append(f"-d {_quoted(offer.help)}")
    return " ".join(words)


def _values(offer: Offer) -> str:
    if offer.words:
        return " ".join(offer.words)
    if offer.kind == offers.NOTHING:
        return ""
    return f"(__check_mounts_{'extra_opts' if offer.kind == offers.SECTIONS else offer.kind})"
