#!/bin/sh
# Stop and remove the launchd agent of this user: `codexd service uninstall`.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)

usage() {
    cat <<'TEXT'
Usage: uninstall-launchd.sh [--dry-run] [--label LABEL] [--home DIR]

Runs `ops/codexd service uninstall`: stops the agent and removes
DIR/Library/LaunchAgents/LABEL.plist. Logs and state stay.
TEXT
}

. "$root/ops/lib/help.sh"
show_help "$@"

"$root/ops/codexd" service uninstall --manager launchd "$@" || exit 1
