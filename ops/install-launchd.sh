#!/bin/sh
# Install codexd as a launchd agent of this user.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/ops/lib/service.sh"

usage() {
    cat <<'TEXT'
Usage: install-launchd.sh [--dry-run] [--label LABEL] [--home DIR] [CODEXD OPTION]...

Writes DIR/Library/LaunchAgents/LABEL.plist and starts the agent. Run it again after a change
of options or an upgrade: it restarts the agent only if its property list has changed.

  --dry-run      say what would be done, and do nothing
  --label LABEL  label of the agent (so.makefile.baa-codexd)
  --home DIR     home of the user (the one of this shell)

Other options are those of `codexd config`: they and the environment (BAA_…) become the
configuration of the agent. The repo root is the working directory unless --repo-root says else.
TEXT
}

read_options "$@"
label=${label:-so.makefile.baa-codexd}
eval "set -- $rest"

plist=$home/Library/LaunchAgents/$label.plist
domain=gui/$(id -u)
service=$domain/$label

text=$("$root/ops/codexd" render-plist --program "$root/ops/codexd" \
    --label "$label" --home "$home" "$@") || exit
log=$(printf '%s\n' "$text" | "$root/.venv/bin/python" -c '
import plistlib, sys
print(plistlib.loads(sys.stdin.buffer.read())["StandardOutPath"])')

is_loaded() {
    launchctl print "$service" >/dev/null 2>&1
}

# bootout returns before the agent is gone, and bootstrap refuses while it is there. The agent
# itself may take its ExitTimeOut.
stop_agent() {
    run launchctl bootout "$service" || true
    [ -z "$dry_run" ] || return 0
    tries=0
    while is_loaded; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "launchd does not let go of $service"
        sleep 0.1
    done
}

if is_same "$text" "$plist" && is_loaded; then
    say "$label is installed and has not changed"
    exit 0
fi

[ -d "$(dirname -- "$log")" ] || (umask 077 && run mkdir -p "$(dirname -- "$log")")
if ! is_same "$text" "$plist"; then
    lint='plutil -lint'
    command -v plutil >/dev/null || lint=
    # shellcheck disable=SC2086 # two words, or none
    write_file "$text" "$plist" $lint
fi
if is_loaded; then
    stop_agent
fi
run launchctl enable "$service"
run launchctl bootstrap "$domain" "$plist"
run launchctl kickstart "$service"
[ -n "$dry_run" ] || say "started $service; its output is in $(dirname -- "$log")"
