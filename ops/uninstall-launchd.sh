#!/bin/sh
# Stop and remove the launchd agent of this user.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/ops/lib/service.sh"

usage() {
    cat <<'TEXT'
Usage: uninstall-launchd.sh [--dry-run] [--label LABEL] [--home DIR]

Stops the agent and removes DIR/Library/LaunchAgents/LABEL.plist. Logs and state stay.
TEXT
}

read_options "$@"
label=${label:-so.makefile.baa-codexd}
no_more_options

plist=$home/Library/LaunchAgents/$label.plist
service=gui/$(id -u)/$label

if launchctl print "$service" >/dev/null 2>&1; then
    run launchctl bootout "$service"
fi
remove_file "$plist"
[ -n "$dry_run" ] || say "$label is not installed any more"
