"""Completion for bash (4.4 or later)."""

from __future__ import annotations

from check_mounts.completion import offers
from check_mounts.completion.offers import Offer

_SCRIPT = r"""# bash completion for check_mounts; made by `check_mounts --completion bash`
#
# It asks no mount: mount points come from the text of /proc/self/mountinfo. So it never has bash
# complete files (that would ask each), and lists directories of local filesystems only.

# LONG SHORT KIND[:WORD,WORD...] once|again -|must|may(have a value) NEEDS EXCLUDES
_check_mounts_table=(
@TABLE@
)

# Split the line up to the cursor: `given` gets its words as the program would, `word` the one
# at the cursor, of which bash replaces what follows `before`. `quote` is the quote that is open
# there; `closed` is set if one has ended there, and then bash cannot go on.
_check_mounts_split() {
    local LC_ALL=C c code i started= line
    line=${COMP_LINE:0:COMP_POINT}
    given=() word= before= quote= closed=
    for ((i = 0; i < ${#line}; i++)); do
        c=${line:i:1}
        case $quote$c in
        [[:blank:]])
            [[ $started ]] && given+=("$word")
            word= before= closed= started=
            continue ;;
        \\) ((++i)); word+=${line:i:1} ;;
        \' | \") quote=$c; [[ $word == "$before" ]] || closed=1 ;;
        '$')
            if [[ ${line:i+1:1} == \' ]]; then
                quote='$'; ((++i)); [[ $word == "$before" ]] || closed=1
            else
                word+=$c
            fi ;;
        "''" | '""' | "\$'") quote= closed=1 ;;
        '"\' | '$\')
            ((++i)); c=${line:i:1}
            if [[ $quote == '"' ]]; then
                [[ $c == [\\\"\$\`] ]] || word+=\\
            else
                code=$c
                case $c in
                [0-7]) while ((${#code} < 3)) && [[ ${line:i+1:1} == [0-7] ]]; do ((++i)); code+=${line:i:1}; done ;;
                x) while ((${#code} < 3)) && [[ ${line:i+1:1} == [[:xdigit:]] ]]; do ((++i)); code+=${line:i:1}; done ;;
                esac
                [[ $c == [\'\"?] ]] || printf -v c %b "\\$code"
            fi
            word+=$c ;;
        *)
            word+=$c
            if [[ ! $quote && $COMP_WORDBREAKS == *"$c"* ]]; then before=$word closed=; fi ;;
        esac
        started=1
    done
}

# Offer words that begin with what is typed; "-" before them: no blank follows.
_check_mounts_offer() {
    local each rest blank=1 count=${#COMPREPLY[@]}
    [[ $1 == - ]] && { blank=; shift; }
    [[ $closed ]] && return
    for each; do
        [[ $each == "$word"* ]] || continue
        rest=${each#"$before"}
        case $quote in
        '') [[ $rest ]] || continue
            printf -v rest %q "$rest" ;;
        \') [[ $rest == *[[:cntrl:]]* ]] && continue
            rest=${rest//\'/\'\\\'\'} ;;
        \") [[ $rest == *[[:cntrl:]!]* ]] && continue
            rest=${rest//\\/\\\\} rest=${rest//\"/\\\"} rest=${rest//\$/\\\$} rest=${rest//\`/\\\`} ;;
        '$') if [[ $rest == *[![:print:]]* ]]; then
                printf -v rest %q "$rest"; rest=${rest#\$\'} rest=${rest%\'}
            else
                rest=${rest//\\/\\\\} rest=${rest//\'/\\\'}
            fi ;;
        esac
        COMPREPLY+=("$rest")
    done
    [[ $blank ]] || ((${#COMPREPLY[@]} == count)) || compopt -o nospace
}

# `points`, `types` and `sources` of all mounts.
_check_mounts_read() {
    local line field
    points=() types=() sources=()
    mapfile -t lines < /proc/self/mountinfo
    for line in "${lines[@]}"; do
        field=${line#* * * * } field=${field%% *}
        [[ $field == *\\* ]] && printf -v field %b "${field//\\/\\0}"
        points+=("$field")
        line=${line#* - }
        types+=("${line%% *}")
        field=${line#* } field=${field%% *}
        [[ $field == *\\* ]] && printf -v field %b "${field//\\/\\0}"
        sources+=("$field")
    done
}

# Whether the directory "$1" can be looked at: it is on a local filesystem, and no link leads away.
_check_mounts_local() {
    local path=$1 type= longest=-1 i part
    [[ $path == /* ]] || path=$PWD/$path
    [[ /$path/ == */../* ]] && return 1
    for i in "${!points[@]}"; do
        [[ ${path%/}/ == "${points[i]%/}"/* ]] && ((${#points[i]} >= longest)) &&
            type=${types[i]} longest=${#points[i]}
    done
    [[ " @LOCAL@ " == *" $type "* ]] || return 1
    part=
    path=${path#/}
    while [[ $path ]]; do
        part+=/${path%%/*}
        [[ -L $part ]] && return 1
        [[ $path == */* ]] || break
        path=${path#*/}
    done
    return 0
}

# Files that the value at the cursor, which follows "$1", may name; "$2" is -d for directories.
_check_mounts_files() {
    local typed=${word#"$1"} only=$2 directory name path i found=() places=()
    directory=
    [[ $typed == */* ]] && directory=${typed%/*}/
    _check_mounts_read
    _check_mounts_local "${directory:-.}" || return
    for name in "$directory"*; do
        [[ $name == "$typed"* ]] || continue
        path=$name
        [[ $path == /* ]] || path=$PWD/$path
        for i in "${points[@]}"; do [[ $i == "$path" ]] && { places+=("$1$name/"); continue 2; }; done
        if [[ ! -L $name && -d $name ]]; then places+=("$1$name/"); elif [[ ! $only ]]; then found+=("$1$name"); fi
    done
    _check_mounts_offer "${found[@]}"
    ((${#places[@]})) && _check_mounts_offer - "${places[@]}"
}

# The lines of a file that can be read without waiting.
_check_mounts_lines() {
    lines=()
    _check_mounts_read
    _check_mounts_local "$1" && [[ -f $1 && -r $1 ]] && mapfile -t lines < "$1"
}

# The names in "$1" of sections [$2 "NAME"] -> `names`.
_check_mounts_sections() {
    local lines line
    names=()
    _check_mounts_lines "$1"
    for line in "${lines[@]}"; do
        [[ $line =~ ^[[:blank:]]*\[$2[[:blank:]]+\"(.*)\"\][[:blank:]]*$ ]] || continue
        line=${BASH_REMATCH[1]//\\\"/\"}
        names+=("${line//\\\\/\\}")
    done
}

# Values of a kind "$1"; "$2" stands before the value in the word.
_check_mounts_value() {
    local kind=$1 front=$2 file line lines names points types sources list
    case $kind in
    words:*)
        kind=${kind#words:}
        list=(${kind//,/ })
        _check_mounts_offer "${list[@]/#/$front}" ;;
    points) _check_mounts_read; _check_mounts_offer "${points[@]/#/$front}" ;;
    mounts)
        _check_mounts_read
        _check_mounts_offer "${points[@]/#/$front}"
        _check_mounts_sections @CONFIG@ mount
        _check_mounts_offer "${names[@]/#/$front}" ;;
    sources) _check_mounts_read; _check_mounts_offer "${sources[@]/#/$front}" ;;
    types)
        _check_mounts_read
        [[ $word == *,* ]] && front=${word%,*},
        mapfile -t lines < /proc/filesystems
        lines=("${lines[@]##*$'\t'}" "${types[@]}")
        _check_mounts_offer "${lines[@]/#/$front}" ;;
    severities)
        line=${word#"$front"}
        [[ $line == *,* ]] && front+=${line%,*}, line=${line##*,}
        if [[ $line == *=* ]]; then
            list=(@STATES@)
            _check_mounts_offer "${list[@]/#/$front${line%%=*}=}"
        else
            list=(@CONDITIONS@)
            list=("${list[@]/#/$front}")
            _check_mounts_offer - "${list[@]/%/=}"
        fi ;;
    steps)
        list=(@STEPS@)
        list=("${list[@]/#/$front}")
        _check_mounts_offer - "${list[@]/%/=}" ;;
    users)
        _check_mounts_lines /etc/passwd
        list=(owner self "${lines[@]%%:*}")
        _check_mounts_offer "${list[@]/#/$front}" ;;
    files) _check_mounts_files "$front" ;;
    directories) _check_mounts_files "$front" -d ;;
    destinations)
        list=(@SCHEMES@)
        _check_mounts_sections @CONFIG@ submit
        _check_mounts_offer "${names[@]/#/$front}"
        _check_mounts_offer - "${list[@]/#/$front}" ;;
    sections)
        if [[ ${word#"$front"} == *@* ]]; then
            line=${word#"$front"}
            _check_mounts_files "$front${line%%@*}@"
            return
        fi
        for file in ${MP_CONFIG_FILE:+"$MP_CONFIG_FILE"} @INI@; do
            _check_mounts_lines "$file"
            ((${#lines[@]})) && break
        done
        for line in "${lines[@]}"; do
            [[ $line =~ ^[[:blank:]]*\[[[:blank:]]*([^]\"]*[^]\"[:blank:]])[[:blank:]]*\] ]] &&
                _check_mounts_offer "$front${BASH_REMATCH[1]}"
        done ;;
    esac
}

_check_mounts() {
    local IFS=$' \t\n' given word before quote closed pending= ended= named=' ' each row
    COMPREPLY=()
    _check_mounts_split
    for each in "${given[@]:1}"; do
        if [[ $ended ]]; then continue; elif [[ $pending ]]; then pending=; continue; fi
        [[ $each == -- ]] && ended=1
        for row in "${_check_mounts_table[@]}"; do
            row=($row)
            case $each in
            "${row[0]}" | "${row[1]}") [[ ${row[4]} == must ]] && pending=${row[2]} ;;
            "${row[0]}="*) ;;
            *) [[ ${row[1]} == -? && $each == "${row[1]}"* ]] || continue ;;
            esac
            named+="${row[0]} "
            break
        done
    done
    if [[ $pending ]]; then
        _check_mounts_value "$pending" ''
    elif [[ $ended || $word != -* ]]; then
        _check_mounts_value points ''
    else
        for row in "${_check_mounts_table[@]}"; do
            row=($row)
            if [[ $word == "${row[0]}="* ]]; then
                _check_mounts_value "${row[2]}" "${row[0]}="
            elif [[ $word != *=* ]]; then
                _check_mounts_option "${row[@]}"
            fi
        done
    fi
}

# Offer an option, unless it would be refused.
_check_mounts_option() {
    [[ $4 == again || $named != *" $1 "* ]] || return
    [[ $6 == - ]] || _check_mounts_named "$6" || return
    _check_mounts_named "$7" && return
    case $5 in
    must) _check_mounts_offer - "$1=" ;;
    may) _check_mounts_offer "$1"; _check_mounts_offer - "$1=" ;;
    *) _check_mounts_offer "$1" ;;
    esac
    [[ $word == - && $2 != - ]] && _check_mounts_offer "$2"
}

# Whether one of the options in the list "$1" is on the line.
_check_mounts_named() {
    local each
    for each in ${1//,/ }; do [[ $named == *" $each "* ]] && return 0; done
    return 1
}

complete -F _check_mounts check_mounts check_mounts.pyz
"""


def script() -> str:
    """The script for bash."""
    return offers.filled(_SCRIPT, TABLE="\n".join(f"'{_row(offer)}'" for offer in offers.offers()))


def _row(offer: Offer) -> str:
    kind = f"{offer.kind}:{','.join(offer.words)}" if offer.words else offer.kind
    value = "" if not offer.kind else "may" if offer.optional else "must"
    fields = (
        offer.long, offer.short, kind, "again" if offer.repeatable else "once", value,
        ",".join(offer.needs), ",".join(offer.excludes),
    )  # fmt: skip
    return " ".join(field or "-" for field in fields)
