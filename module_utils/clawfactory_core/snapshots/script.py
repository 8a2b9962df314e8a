"""The shell script in every archive: restores a chain without ClawFactory."""

from __future__ import annotations

SCRIPT_NAME = b".clawfactory/restore.sh"

#: POSIX sh with GNU tar, coreutils, age and zstd. It reads the manifest line by line, as :mod:`.manifest` writes it.
SCRIPT = rb"""#!/bin/sh
# Restores a snapshot of ClawFactory: restore.sh -i KEY_FILE TARGET_DIR FULL.age [INC.age ...]
# Needs age, zstd, GNU tar and coreutils. Run it as root to keep the owner. The format: docs/snapshot-format.md.
set -u
LC_ALL=C
export LC_ALL
umask 077

fail() {
    printf 'restore.sh: %s\n' "$1" >&2
    exit 1
}

usage='usage: restore.sh -i KEY_FILE TARGET_DIR FULL.age [INC.age ...]'
[ "$#" -ge 4 ] && [ "$1" = -i ] || fail "$usage"
key=$2
mkdir -p -- "$3" || fail "cannot make $3"
target=$(CDPATH='' cd -- "$3" && pwd && printf .) || fail "cannot enter $3"
target=${target%??}
shift 3
[ -z "$(ls -A -- "$target")" ] || fail "$target is not empty"
work=$(mktemp -d "$target/.restore-XXXXXX") || fail "cannot write to $target"
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' HUP INT TERM

# unpack ARCHIVE DIRECTORY [MEMBER ...]
unpack() {
    archive=$1
    directory=$2
    shift 2
    # The mode that a member has, without setuid and the like; nobody else can enter the target meanwhile.
    {
        age -d -i "$key" -- "$archive" || : >"$work/failed"
    } | {
        zstd -dc || : >"$work/failed"
    } | (
        umask 0
        tar -x --overwrite --no-same-permissions --numeric-owner --warning=no-timestamp -C "$directory" -f - "$@"
    ) || fail "tar cannot unpack $archive; throw $target away"
    [ ! -e "$work/failed" ] || fail "$archive cannot be decrypted to its end; throw $target away"
}

# decode ESCAPED: sets $path; the point keeps a line's end at the end of a name.
decode() {
    path=$(printf '%b.' "$1")
    path=$target/${path%.}
}

# inside: refuses a $path that leads out of the target, through .. or through a link that an archive put there.
inside() {
    rest=${path#"$target"/}
    case /$rest/ in
    */../*) fail "$path leads out of $target; throw it away" ;;
    esac
    up=$target
    while [ "${rest#*/}" != "$rest" ]; do
        up=$up/${rest%%/*}
        rest=${rest#*/}
        [ ! -L "$up" ] || fail "$path lies below a link; throw $target away"
    done
}

# members ARCHIVE: the names of its members, one a line, escaped as decode reads them
members() {
    {
        age -d -i "$key" -- "$1" || : >"$work/failed"
    } | {
        zstd -dc || : >"$work/failed"
    } | tar -t --quoting-style=escape -f - >"$work/members" || fail "tar cannot read $1; throw $target away"
    [ ! -e "$work/failed" ] || fail "$1 cannot be decrypted to its end; throw $target away"
    while IFS= read -r line; do
        path=$target/$(printf '%b.' "$line")
        path=${path%.}
        path=${path%/}
        inside
    done <"$work/members"
}

# text FILE KEY: sets $text to the value of a key, a JSON string
text() {
    text=$(cat -- "$1")
    text=${text#*\"$2\"}
    text=${text#*\"}
    text=${text%%\"*}
}

deletions() {
    while IFS= read -r line; do
        case $line in
        'delete '*)
            decode "${line#delete }"
            inside
            rm -rf -- "$path" || fail "cannot delete $path"
            ;;
        esac
    done <"$about/changes"
}

patches() {
    while read -r verb number size mode mtime escaped; do
        [ "$verb" = patch ] || continue
        decode "$escaped"
        inside
        [ -f "$path" ] && [ ! -L "$path" ] || fail "$path is not there to be patched"
        chmod u+w -- "$path"
        done=0
        while read -r first count; do
            dd if="$target/.clawfactory/patch/$number.data" of="$path" bs=4096 skip="$done" seek="$first" \
                count="$count" conv=notrunc status=none || fail "cannot write $path"
            done=$((done + count))
        done <"$target/.clawfactory/patch/$number.ranges"
        truncate -s "$size" -- "$path" && chmod "${mode#?}" -- "$path" && touch -d "@$mtime" -- "$path" ||
            fail "cannot write $path"
    done <"$about/changes"
}

# Directories of all manifests: what was put in or taken out changed their times.
directory_times() {
    while read -r escaped mtime; do
        decode "$(printf '%b' "$escaped")"
        [ -d "$path" ] && [ ! -L "$path" ] || continue
        sign=${mtime%%[0-9]*}
        mtime=0000000000${mtime#-}
        seconds=${mtime%?????????}
        while [ "${seconds#0?}" != "$seconds" ]; do seconds=${seconds#0}; done
        touch -d "@$sign$seconds.${mtime#"${mtime%?????????}"}" -- "$path" || exit 1
    done <"$work/directories" || fail 'cannot set the times of directories'
}

before=
: >"$work/directories"
for snapshot; do
    rm -rf -- "$work/about"
    mkdir "$work/about"
    if [ -n "$before" ]; then
        unpack "$snapshot" "$work/about" .clawfactory/snapshot.json .clawfactory/changes
        about=$work/about/.clawfactory
        text "$about/snapshot.json" parent_sha256
        [ "$text" = "$before" ] || fail "$snapshot does not build upon the archive before it; throw $target away"
        deletions
        members "$snapshot"
    fi
    unpack "$snapshot" "$target"
    if [ -n "$before" ]; then
        patches
    else
        text "$target/.clawfactory/snapshot.json" kind
        [ "$text" = full ] || fail "$snapshot is not a full snapshot; throw $target away"
    fi
    while IFS= read -r line; do
        case $line in
        *'","d",'*)
            escaped=${line%%'","d",'*}
            rest=${line#*'","d",'}
            rest=${rest#*,}
            printf '%s %s\n' "${escaped##*'["'}" "${rest%%,*}"
            ;;
        esac
    done <"$target/.clawfactory/manifest.json" >>"$work/directories"
    rm -rf -- "$target/.clawfactory"
    before=$(sha256sum <"$snapshot")
    before=${before%% *}
done
directory_times
"""
