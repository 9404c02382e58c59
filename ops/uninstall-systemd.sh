#!/bin/sh
# Stop and remove the systemd user service.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/ops/lib/service.sh"

usage() {
    cat <<'TEXT'
Usage: uninstall-systemd.sh [--dry-run] [--home DIR]

Stops and disables codexd.service and removes its unit. Logs and state stay.
TEXT
}

read_options "$@"
refuse_sudo
no_launchd_options
no_more_options

unit=${XDG_CONFIG_HOME:-$home/.config}/systemd/user/codexd.service
if [ -e "$unit" ]; then
    run systemctl --user disable --now codexd.service
    remove_file "$unit"
    run systemctl --user daemon-reload
fi
[ -n "$dry_run" ] || say "codexd.service is not installed any more"
