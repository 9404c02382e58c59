#!/bin/sh
# Install codexd as a systemd user service.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/ops/lib/service.sh"

usage() {
    cat <<'TEXT'
Usage: install-systemd.sh [--dry-run] [--force] [--home DIR] [CODEXD OPTION]...

Writes codexd.service to the user's systemd directory, enables and starts it, and waits until it is
up. Run it again after a change of options or an upgrade: it restarts the service only if its unit
has changed.

  --dry-run   say what would be done, and do nothing
  --force     replace a unit that was edited
  --home DIR  home of the user (the one of this shell)

Other options are those of `codexd config`: they and the environment (BAA_…, CODEX_HOME, proxies)
become those of the service. The repo root is the working directory unless --repo-root says else.
TEXT
}

read_options "$@"
refuse_sudo
no_launchd_options
eval "set -- $rest"

unit=${XDG_CONFIG_HOME:-$home/.config}/systemd/user/codexd.service
text=$("$root/ops/codexd" render-systemd --program "$root/ops/codexd" --home "$home" "$@") || exit

sealed=$(seal "$text" '# ' '')

is_up() {
    systemctl --user --quiet is-enabled codexd.service >/dev/null 2>&1 &&
        systemctl --user --quiet is-active codexd.service
}

# say_whether_up WORD: wait for the service, and say what became of it.
say_whether_up() {
    ask_about_service wait systemd codexd.service ||
        fail "codexd.service does not run as it should; see: systemctl --user status codexd"
    say "$1 codexd.service; see: systemctl --user status codexd"
}

pid=$(systemctl --user show --property=MainPID --value codexd.service 2>/dev/null) || pid=
ask_about_service check systemd "$pid" || fail "nothing was changed"
if is_same "$sealed" "$unit" && is_up; then
    say "codexd.service is installed and has not changed"
    [ -n "$dry_run" ] || say_whether_up "it runs as"
    exit 0
fi
refuse_edited "$unit"

if ! is_same "$sealed" "$unit"; then
    write_file "$sealed" "$unit"
fi
run systemctl --user daemon-reload ||
    fail "systemctl reaches no manager of this user: log in as the user (not with su or sudo)"
run systemctl --user enable codexd.service
# Starts it, too, if it does not run. Why it does not come up, codexd itself says best.
run systemctl --user restart codexd.service || true
[ -n "$dry_run" ] || say_whether_up started

user=$(id -un)
if [ "$(loginctl show-user "$user" --property=Linger 2>/dev/null)" != Linger=yes ]; then
    say "it ends when you log out; to keep it: loginctl enable-linger $user"
fi
