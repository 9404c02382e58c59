#!/bin/sh
# Stop and remove the systemd user service: `codexd service uninstall`.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)

usage() {
    cat <<'TEXT'
Usage: uninstall-systemd.sh [--dry-run] [--home DIR]

Runs `ops/codexd service uninstall`: stops and disables codexd.service and removes its unit. Logs
and state stay.
TEXT
}

. "$root/ops/lib/help.sh"
show_help "$@"

"$root/ops/codexd" service uninstall --manager systemd "$@" || exit 1
