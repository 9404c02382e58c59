#!/bin/sh
# Install codexd as a launchd agent of this user.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/ops/lib/service.sh"
. "$root/ops/lib/launchd.sh"

usage() {
    cat <<'TEXT'
Usage: install-launchd.sh [--dry-run] [--force] [--label LABEL] [--home DIR]
                          [--process-type TYPE] [CODEXD OPTION]...

Writes DIR/Library/LaunchAgents/LABEL.plist, starts the agent and waits until it is up. Run it
again after a change of options or an upgrade: it restarts the agent only if its property list has
changed.

  --dry-run            say what would be done, and do nothing
  --force              replace a property list that was edited
  --label LABEL        label of the agent (so.makefile.baa-codexd)
  --home DIR           home of the user (the one of this shell)
  --process-type TYPE  Background, or Standard, Adaptive, Interactive: macOS gives Background jobs,
                       and so codex and its builds, less processor and disk

Other options are those of `codexd config`: they and the environment (BAA_…, CODEX_HOME, proxies)
become those of the agent. The repo root is the working directory unless --repo-root says else.
TEXT
}

read_options "$@"
refuse_sudo
label=${label:-so.makefile.baa-codexd}
eval "set -- $rest"

plist=$home/Library/LaunchAgents/$label.plist
domain=gui/$(id -u)
service=$domain/$label

text=$("$root/ops/codexd" render-plist --program "$root/ops/codexd" \
    --label "$label" --home "$home" --process-type "${process_type:-Background}" "$@") || exit
sealed=$(seal "$text" '<!-- ' ' -->')
log=$(printf '%s\n' "$text" | "$root/.venv/bin/python" -c '
import plistlib, sys
print(plistlib.loads(sys.stdin.buffer.read())["StandardErrorPath"])')

# say_whether_up WORD: wait for the agent, and say what became of it.
say_whether_up() {
    ask_about_service wait launchd "$service" "$size" ||
        fail "$service does not run as it should; its output is in $(dirname -- "$log")"
    say "$1 $service; its output is in $(dirname -- "$log")"
}

ask_about_service check launchd "$(agent_pid)" || fail "nothing was changed"
size=0
[ ! -e "$log" ] || size=$(($(wc -c <"$log")))
if is_same "$sealed" "$plist" && is_loaded; then
    say "$label is installed and has not changed"
    [ -n "$dry_run" ] || say_whether_up "it runs as"
    exit 0
fi
refuse_edited "$plist"

[ -d "$(dirname -- "$log")" ] || (umask 077 && run mkdir -p "$(dirname -- "$log")")
if ! is_same "$sealed" "$plist"; then
    lint='plutil -lint'
    command -v plutil >/dev/null || lint=
    # shellcheck disable=SC2086 # two words, or none
    write_file "$sealed" "$plist" $lint
fi
if is_loaded; then
    stop_agent
fi
start_agent
[ -n "$dry_run" ] || say_whether_up started
