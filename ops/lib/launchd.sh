# shellcheck shell=sh disable=SC2154
# Sourced after service.sh by the scripts for launchd, with $domain and $service set.

# What launchctl answers (errno.h): the job is still ending; the domain is not there.
still_ending=36
already_ending=37
no_domain=125

is_loaded() {
    launchctl print "$service" >/dev/null 2>&1
}

# The pid of the agent, if it runs.
agent_pid() {
    launchctl print "$service" 2>/dev/null | sed -n 's/^[[:space:]]*pid = \([0-9]*\)$/\1/p' |
        head -n 1
}

# Stop the agent and wait until launchd has let go of it: bootout returns before, and bootstrap
# refuses while it is there. It may take as long as running turns take: its ExitTimeOut.
stop_agent() {
    answer=0
    run launchctl bootout "$service" || answer=$?
    [ -z "$dry_run" ] || return 0
    tries=0
    while is_loaded; do
        tries=$((tries + 1))
        case $answer in
            0 | "$still_ending" | "$already_ending") ;;
            *) [ $tries -lt 20 ] || fail "launchctl bootout $service answered $answer" ;;
        esac
        [ $tries -ne 50 ] || say "waiting for $service to end: running turns may finish"
        [ $tries -lt 6000 ] || fail "launchd does not let go of $service"
        sleep 0.1
    done
}

# Load the agent of $plist.
start_agent() {
    # Where this does not go, bootstrap says why.
    run launchctl enable "$service" || true
    tries=0
    while :; do
        answer=0
        run launchctl bootstrap "$domain" "$plist" || answer=$?
        tries=$((tries + 1))
        case $answer in
            "$still_ending" | "$already_ending") [ $tries -lt 100 ] || break ;;
            *) break ;;
        esac
        sleep 0.1
    done
    case $answer in
        0) ;;
        "$no_domain")
            fail "$plist is written and not started: you are not logged in at this Mac's screen," \
                "and only there has launchd a place for your agents ($domain). Log in there, or" \
                "turn on automatic login; or run codexd as a LaunchDaemon, which needs no login" \
                "(docs/how-to/install-launchd.md)"
            ;;
        *) fail "launchctl bootstrap $domain $plist answered $answer" ;;
    esac
    # RunAtLoad has done it, but for an agent that launchd holds back for a while.
    run launchctl kickstart "$service" || true
}
