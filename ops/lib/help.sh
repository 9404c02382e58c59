# shellcheck shell=sh
# Sourced by a script that has a `usage`.

# show_help WORD...: where help is among what was asked for, that alone is given.
show_help() {
    for word; do
        case $word in
            -h | --help)
                usage
                exit 0
                ;;
        esac
    done
}
