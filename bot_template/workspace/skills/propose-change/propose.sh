#!/bin/sh
# Proposes a change to the bot's approved files. The proposal goes to the operator, who alone decides.
#
#   propose.sh start NAME                   a copy of the approved files to edit, in proposals/work/NAME
#   propose.sh send NAME "TITLE" ["WHY"]    hands it over and waits for the answer, at most 90 seconds
#   propose.sh status                       what is approved, and what became of the proposals (JSON)
#
# NAME: 1 to 64 lower-case letters, digits and dashes. Exits 0 if it was done, 1 if it was refused, 2 if it was called
# wrongly, 75 if there is no answer yet.
set -eu

ANSWER_WITHIN=90
REFRESH_WITHIN=20
ACCEPTED=refs/clawfactory/accepted

fail() {
    echo "propose: $1" >&2
    exit "${2:-1}"
}

# Hooks and settings that came into a working copy do not run here.
git() {
    command git -c core.hooksPath=/dev/null -c core.fsmonitor=false "$@"
}
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0

# Where the tools run with a workspace of their own, the skills may lie in one that can only be read.
find_workspace() {
    for workspace in "$(cd "$(dirname "$0")/../.." && pwd)" /workspace; do
        if [ -w "$workspace" ]; then return 0; fi
    done
    fail "no workspace here can be written; ask the operator for gateway_sandbox_workspace_access: rw"
}

check_name() {
    case $1 in
        '' | -* | *- | *[!a-z0-9-]*) fail "'$1' cannot be a name; use lower-case letters, digits and dashes" 2 ;;
    esac
    [ ${#1} -le 64 ] || fail "'$1' is longer than 64 characters" 2
}

# Waits until the command $2… succeeds, at most $1 seconds.
wait_for() {
    left=$1
    shift
    until "$@"; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 1
    done
}

is_refreshed() { [ ! -e "$exchange/outbox/refresh" ]; }

refresh() {
    : >"$exchange/outbox/refresh"
    wait_for "$REFRESH_WITHIN" is_refreshed
}

start() {
    work=$exchange/work/$1
    [ ! -e "$work" ] || fail "$work is there already; go on in it, or remove it to start again"
    refresh || echo "propose: nobody looked for newer approved files; this copy may be old" >&2
    [ -f "$exchange/main.bundle" ] || fail "the approved files have not come yet; try again in a minute" 75
    fresh=$exchange/work/.$1.$$
    mkdir -p "$exchange/work"
    rm -rf "$fresh"
    git clone --quiet --branch main "$exchange/main.bundle" "$fresh"
    git -C "$fresh" checkout --quiet -b "proposal/$1"
    mv "$fresh" "$work"
    echo "Edit the files in $work/workspace/, then: propose.sh send $1 \"TITLE\" \"WHY\""
}

# Makes what is in the working copy one commit on top of what was accepted before. What was refused does not stay in the
# history: a key that was removed again would still be in it.
commit() {
    base=$(git -C "$work" rev-parse --verify --quiet "$ACCEPTED" || git -C "$work" merge-base origin/main HEAD)
    git -C "$work" add --all
    if [ "$(git -C "$work" rev-parse HEAD)" != "$base" ] && [ "$(git -C "$work" rev-parse HEAD^)" = "$base" ] &&
        git -C "$work" diff --cached --quiet HEAD; then return 0; fi
    git -C "$work" reset --quiet --soft "$base"
    if git -C "$work" diff --cached --quiet; then return 0; fi
    bot=$(sed -n 's/^  "bot": "\([a-z0-9-]*\)",$/\1/p' "$exchange/status.json" 2>/dev/null || :)
    set -- -m "$1" ${2:+-m "$2"}
    git -C "$work" -c user.name="${bot:-bot}" -c user.email="${bot:-bot}@clawfactory.invalid" -c commit.gpgSign=false \
        commit --quiet --no-verify "$@"
}

# Keeps the commit that the answer says was accepted, if it is one of this working copy.
remember() {
    read -r verdict answered <"$answer" || return 0
    [ "$verdict" = accepted ] || return 0
    git -C "$work" cat-file -e "$answered^{commit}" && git -C "$work" update-ref "$ACCEPTED" "$answered" || :
} 2>/dev/null

is_answered() {
    read -r verdict answered <"$answer" || return 1
    case $verdict in
        accepted | refused) [ "$answered" = "$commit" ] || [ "$answered" = 0000000000000000000000000000000000000000 ] ;;
        *) return 1 ;;
    esac
} 2>/dev/null

send() {
    work=$exchange/work/$1
    answer=$exchange/answers/$1.txt
    [ -d "$work/.git" ] || fail "there is no $work; begin with: propose.sh start $1" 2
    [ "$(git -C "$work" symbolic-ref --quiet --short HEAD)" = "proposal/$1" ] ||
        fail "$work is not on its branch; run: git -C $work checkout proposal/$1" 2
    # It may have come after an earlier call had ended.
    remember
    commit "$2" "${3:-}"
    [ -n "$(git -C "$work" rev-list -n 1 origin/main..HEAD)" ] || fail "nothing is changed in $work" 2
    commit=$(git -C "$work" rev-parse HEAD)
    git -C "$work" diff --stat origin/main...HEAD
    rm -rf "$answer"
    git -C "$work" bundle create --quiet "$exchange/outbox/.$1.new" "origin/main..proposal/$1"
    mv -f "$exchange/outbox/.$1.new" "$exchange/outbox/$1.bundle"
    if ! wait_for "$ANSWER_WITHIN" is_answered; then
        [ ! -f "$answer" ] || cat "$answer"
        fail "no answer yet; it is on its way. Ask later: propose.sh status" 75
    fi
    cat "$answer"
    remember
    [ "$verdict" = accepted ]
}

show_status() {
    refresh || echo "propose: nobody looked for news; this may be old" >&2
    [ -f "$exchange/status.json" ] || fail "no status has come yet; try again in a minute" 75
    cat "$exchange/status.json"
}

usage() {
    sed -n '4,6s/^# *//p' "$0" >&2
    exit 2
}

find_workspace
exchange=$workspace/proposals
mkdir -p "$exchange/outbox" "$exchange/answers" 2>/dev/null || fail "$exchange cannot be made; tell the operator"
case ${1:-}/$# in
    start/2)
        check_name "$2"
        start "$2"
        ;;
    send/[34])
        check_name "$2"
        [ -n "$3" ] || fail "the title is empty; say in one line what changes" 2
        send "$2" "$3" "${4:-}"
        ;;
    status/1) show_status ;;
    *) usage ;;
esac
