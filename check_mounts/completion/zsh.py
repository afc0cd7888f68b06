"""Completion for zsh (5.0 or later)."""

from __future__ import annotations

from check_mounts.completion import offers
from check_mounts.completion.offers import Offer

_SCRIPT = r"""#compdef check_mounts check_mounts.pyz
# zsh completion for check_mounts; made by `check_mounts --completion zsh`
#
# It asks no mount: mount points come from the text of /proc/self/mountinfo. So it never has zsh
# complete files (that would ask each), and lists directories of local filesystems only.

# `points`, `types` and `sources` of all mounts.
_check_mounts_read() {
    local line field rest
    points=() types=() sources=()
    for line in "${(@f)$(</proc/self/mountinfo)}"; do
        field=${${line#* * * * }%% *}
        [[ $field == *\\* ]] && printf -v field %b "${field//\\/\\0}"
        points+=("$field")
        line=${line#* - }
        types+=("${line%% *}")
        field=${${line#* }%% *}
        [[ $field == *\\* ]] && printf -v field %b "${field//\\/\\0}"
        sources+=("$field")
    done
}

# Whether the directory "$1" can be looked at: it is on a local filesystem, and no link leads away.
_check_mounts_local() {
    local file=$1 type= part=
    local -i longest=-1 i
    [[ $file == /* ]] || file=$PWD/$file
    [[ /$file/ == */../* ]] && return 1
    for ((i = 1; i <= $#points; i++)); do
        [[ ${file%/}/ == ${(b)points[i]%/}/* ]] && (($#points[i] >= longest)) && type=$types[i] longest=$#points[i]
    done
    [[ " @LOCAL@ " == *" $type "* ]] || return 1
    for part in ${(s:/:)file}; do
        part=$done_/$part
        [[ -L $part ]] && return 1
        done_=$part
    done
    return 0
}

# Files; "$1" is -d for directories.
_check_mounts_files() {
    local typed=${(Q)PREFIX} directory= name file done_=
    local -a points types sources found places
    [[ $typed == */* ]] && directory=${typed%/*}/
    _check_mounts_read
    _check_mounts_local "${directory:-.}" || return 1
    for name in "$directory"*(N); do
        file=$name
        [[ $file == /* ]] || file=$PWD/$file
        if ((${points[(Ie)$file]})) || [[ ! -L $name && -d $name ]]; then
            places+=("$name/")
        elif [[ $1 != -d ]]; then
            found+=("$name")
        fi
    done
    compadd -a found
    compadd -S '' -a places
    return 0
}

# The lines of a file that can be read without waiting.
_check_mounts_lines() {
    local done_=
    local -a points types sources
    lines=()
    _check_mounts_read
    _check_mounts_local "$1" && [[ -f $1 && -r $1 ]] && lines=("${(@f)$(<$1)}")
}

# The names in "$1" of sections [$2 "NAME"] -> `names`.
_check_mounts_sections() {
    local line
    local -a lines match mbegin mend
    names=()
    _check_mounts_lines "$1"
    for line in "${lines[@]}"; do
        [[ $line =~ "^[[:blank:]]*\[$2[[:blank:]]+\"(.*)\"\][[:blank:]]*\$" ]] || continue
        line=${match[1]//\\\"/\"}
        names+=("${line//\\\\/\\}")
    done
}

_check_mounts_mounts() {
    local -a points types sources names
    _check_mounts_read
    _check_mounts_sections @CONFIG@ mount
    compadd -a points
    compadd -a names
}

# Arguments, which are no patterns.
_check_mounts_points() {
    local -a points types sources
    _check_mounts_read
    compadd -a points
}

_check_mounts_sources() {
    local -a points types sources
    _check_mounts_read
    compadd -a sources
}

_check_mounts_types() {
    local -a points types sources known
    _check_mounts_read
    known=(${${(f)"$(</proc/filesystems)"}##*$'\t'} $types)
    compset -P '*,'
    compset -S ',*'
    compadd -S '' -a known
}

_check_mounts_severities() {
    compset -P '*,'
    compset -S ',*'
    if compset -P '*='; then
        compadd @STATES@
    else
        compadd -S = @CONDITIONS@
    fi
}

_check_mounts_steps() { compadd -S = @STEPS@ }

_check_mounts_users() {
    local -a lines
    _check_mounts_lines /etc/passwd
    compadd owner self ${lines%%:*}
}

_check_mounts_directories() { _check_mounts_files -d }

_check_mounts_destinations() {
    local -a names
    _check_mounts_sections @CONFIG@ submit
    compadd -a names
    compadd -S '' @SCHEMES@
}

_check_mounts_extra_opts() {
    local file line
    local -a lines names match mbegin mend
    if compset -P '*@'; then
        _check_mounts_files
        return
    fi
    for file in ${MP_CONFIG_FILE:+$MP_CONFIG_FILE} @INI@; do
        _check_mounts_lines "$file"
        (($#lines)) && break
    done
    for line in "${lines[@]}"; do
        [[ $line =~ '^[[:blank:]]*\[[[:blank:]]*([^]"]*[^]"[:blank:]])[[:blank:]]*\]' ]] && names+=("$match[1]")
    done
    compadd -a names
}

_check_mounts() {
    emulate -L zsh
    setopt extended_glob no_nomatch
    local context state state_descr line each
    local -A opt_args
    local -a specs
    specs=(
@SPECS@
    )
@NEEDING@
    _arguments -s -S : $specs '*:mount point:_check_mounts_points'
}

if [[ $funcstack[1] == _check_mounts ]]; then
    _check_mounts "$@"
else
    compdef _check_mounts check_mounts check_mounts.pyz
fi
"""


def script() -> str:
    """The script for zsh."""
    free = [offer for offer in offers.offers() if not offer.needs]
    needing = [offer for offer in offers.offers() if offer.needs]
    return offers.filled(
        _SCRIPT,
        _quoted,
        SPECS="\n".join(f"        {_spec(offer)}" for offer in free),
        NEEDING="\n".join(f"    {_condition(offer)} && specs+=({_spec(offer)})" for offer in needing),
    )


def _condition(offer: Offer) -> str:
    return "((" + " || ".join(f"${{words[(I){name}(|=*)]}}" for name in offer.needs) + "))"


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _spec(offer: Offer) -> str:
    """What _arguments takes: ``'(EXCLUDED)'{-t+,--timeout=}'[HELP]:VALUE:FUNCTION'``."""
    itself = () if offer.repeatable else (offer.long, offer.short)
    excluded = " ".join(filter(None, (*itself, *offer.excludes)))
    front = "*" if offer.repeatable and not excluded else f"({excluded})" + ("*" if offer.repeatable else "")
    words = offer.help
    for character in "\\[]:":
        words = words.replace(character, f"\\{character}")
    value = "" if not offer.kind else f"{'::' if offer.optional else ':'}{_escaped(offer.value)}:{_action(offer)}"
    rest = _quoted(f"[{words}]{value}")
    long = offer.long + ("=-" if offer.optional else "=" if offer.kind else "")
    short = offer.short + ("+" if offer.kind else "")
    if not offer.short:
        return f"{_quoted(front + long)}{rest}"
    return f"{_quoted(front)}{{{short},{long}}}{rest}"


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace(":", "\\:")


def _action(offer: Offer) -> str:
    if offer.words:
        return f"({' '.join(offer.words)})"
    if offer.kind == offers.NOTHING:
        return " "
    return "_check_mounts_extra_opts" if offer.kind == offers.SECTIONS else f"_check_mounts_{offer.kind}"
