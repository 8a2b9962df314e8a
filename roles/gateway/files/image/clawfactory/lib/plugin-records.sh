# shellcheck shell=sh
# Sourced. OpenClaw gives a channel plugin outside its own tree (Discord, Slack) its storage only if the database in
# the bot's state has a record of the plugin's install; it takes records over from plugins/installs.json when it starts.

# Puts the image's records where OpenClaw looks, unless it took these very ones over before: then installs.json.migrated
# is the same file.
# State is in the bot's hands: what is in the way is moved aside, never followed or opened. Returns 1 if it fails.
record_plugins() {
    records=/opt/clawfactory/lib/plugin-installs.json
    state=${OPENCLAW_STATE_DIR:-$HOME/.openclaw}
    target=$state/plugins/installs.json
    if is_own directory "$state/plugins" && is_own file "$state/state/openclaw.sqlite" &&
        is_own file "$target.migrated" && cmp -s "$records" "$target.migrated" && is_missing "$target"; then
        return 0
    fi
    is_own directory "$state/plugins" || move_aside "$state/plugins" || return 1
    mkdir -p "$state/plugins" && chmod u+rwx "$state/plugins" || return 1
    move_aside "$target" && move_aside "$target.migrated" && rm -rf "$target.new" || return 1
    (umask 077 && cat "$records" >"$target.new") && mv -fT "$target.new" "$target"
}

is_missing() { [ ! -e "$1" ] && [ ! -L "$1" ]; }

# Whether $2 is a $1 (file or directory) and no link to one.
is_own() {
    [ ! -L "$2" ] || return 1
    if [ "$1" = file ]; then [ -f "$2" ]; else [ -d "$2" ]; fi
}

# Renames $1 to $1.replaced, the one before goes.
move_aside() {
    is_missing "$1" || { rm -rf "$1.replaced" && mv -fT "$1" "$1.replaced"; }
}
