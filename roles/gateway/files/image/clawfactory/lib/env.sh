# shellcheck shell=sh
# Sourced. Loads the bot's secrets, which come as a file so that `docker inspect` shows none of them.

# Exports every KEY=value line of the file $1. Nothing is evaluated: a value may hold quotes, $, ` or blanks.
# Returns 78 (a wrong configuration, sysexits.h) and names the line, never its value.
load_env_file() {
    number=0
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        case $line in
            '') continue ;;
            *=*) name=${line%%=*} ;;
            *) name='' ;;
        esac
        case $name in
            '' | [!A-Z]* | *[!A-Z0-9_]*)
                echo "clawfactory: line $number of $1 is not KEY=value with a name of A-Z, 0-9 and _; run the 'secrets' role again" >&2
                return 78
                ;;
            # These would change which program runs, not what it knows.
            ENV | HOME | IFS | LD_* | NODE_OPTIONS | NODE_PATH | PATH)
                echo "clawfactory: $name (line $number of $1) cannot be set as a secret; remove it from secrets_env" >&2
                return 78
                ;;
        esac
        case $line in
            *[[:cntrl:]]*)
                echo "clawfactory: the value of $name (line $number of $1) holds a control character; set it to one printable line" >&2
                return 78
                ;;
        esac
        export "$name=${line#*=}"
    done <"$1"
}
