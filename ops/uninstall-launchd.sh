#!/bin/sh
# Stop and remove the launchd agent of this user.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/ops/lib/service.sh"
. "$root/ops/lib/launchd.sh"

usage() {
    cat <<'TEXT'
Usage: uninstall-launchd.sh [--dry-run] [--label LABEL] [--home DIR]

Stops the agent and removes DIR/Library/LaunchAgents/LABEL.plist. Logs and state stay.
TEXT
}

read_options "$@"
refuse_sudo
label=${label:-so.makefile.baa-codexd}
no_more_options

plist=$home/Library/LaunchAgents/$label.plist
domain=gui/$(id -u)
service=$domain/$label

# The file first: whatever becomes of the rest, the agent is not back at the next login.
remove_file "$plist"
if is_loaded; then
    stop_agent
fi
[ -n "$dry_run" ] || say "$label is not installed any more"
