#!/usr/bin/env bash
# Gives every device of a group a new secret, and hands each over with a
# command of yours. The old ones stay good for the overlap.
#
#   scripts/rotate-group.sh --group NAME --overlap DURATION --state FILE --each COMMAND
#       [--data-dir DIR] [--parallel N]
#
#   --group NAME        the group
#   --overlap DURATION  for how long the secrets that devices have stay good
#                       beside the new one: 30m, 24h, 7d
#   --each COMMAND      run by bash for each device, with one JSON object on
#                       stdin: client_id, client_secret, secret_id,
#                       token_endpoint and more; $FLEETBADGE_CLIENT_ID is set
#                       too. 0 means that the device has its secret
#   --state FILE        what is done, a line for each step. With the same file
#                       a run goes on where another one ended, however it
#                       ended, and tries again what failed. A new rotation
#                       needs a new file
#   --data-dir DIR      of the issuer [default: $FLEETBADGE_DATA_DIR]
#   --parallel N        how many devices at a time [default: 4]
#
# Runs where the issuer runs, as its user. $FLEETBADGE_ISSUER_PROGRAM names its
# program [default: fleetbadge-issuer, from the PATH].
#
# Devices that have no secret (they have a key, say) need none. A device that
# is added after the rotation has begun has a new secret already. When it is not
# known whether a secret has arrived, because the run was killed or COMMAND
# failed, the next run asks the issuer: one that was used has; else the device
# gets another, and that one stays good for the overlap, too.
#
# Secrets are in no argument, environment, file or line of this script, only in
# the pipe to COMMAND.
#
# Exit codes: 0 every device has its new secret, 1 some have not (they are
# listed), 2 wrong usage, 3 no issuer runs there, 4 anything else.
{ set +x; } 2>/dev/null # a trace would show secrets
set -euo pipefail
umask 077
ulimit -c 0

say() { printf 'rotate-group: %s\n' "$*" >&2; }
usage() { say "$*; see --help"; exit 2; }
help() { sed -n '2,/^{/{/^#/s/^# \{0,1\}//p}' "$0"; }

group='' overlap='' each='' state='' parallel=4
while (($#)); do
    option=$1
    case $option in
        --help | -h) help; exit 0 ;;
        --group | --overlap | --each | --state | --data-dir | --parallel) ;;
        *) usage "there is no $option" ;;
    esac
    (($# >= 2)) && [[ -n $2 ]] || usage "$option needs a value"
    case $option in
        --group) group=$2 ;;
        --overlap) overlap=$2 ;;
        --each) each=$2 ;;
        --state) state=$2 ;;
        --data-dir) export FLEETBADGE_DATA_DIR=$2 ;;
        --parallel) parallel=$2 ;;
    esac
    shift 2
done
for required in group overlap each state; do
    [[ -n ${!required} ]] || usage "--$required is missing"
done
[[ -n ${FLEETBADGE_DATA_DIR-} ]] || usage '--data-dir is missing'
[[ $overlap =~ ^[0-9]+[smhd]$ ]] || usage "--overlap: $overlap is not a whole number with a unit, like 24h"
[[ $parallel =~ ^[1-9][0-9]?$ ]] || usage "--parallel: $parallel is not between 1 and 99"

program=${FLEETBADGE_ISSUER_PROGRAM:-fleetbadge-issuer}
type -P -- "$program" >/dev/null || usage "there is no program $program: is it in the PATH, or named by \$FLEETBADGE_ISSUER_PROGRAM?"
issuer() { "$program" "$@" 9>&-; }

# A group that is not there has no devices either, and that would be no error.
code=0
issuer group show "$group" --json >/dev/null || code=$?
case $code in
    0) ;;
    1) exit 2 ;;
    *) exit "$code" ;;
esac

# Lines of the state, after the first, each a device and what became of it:
#   made NAME ID     a secret was made and is being handed over
#   done NAME ID     COMMAND said that the device has it, or the device used it
#   gone NAME -      the device was removed meanwhile
#   failed NAME -    this time; it is tried again
# A line that a crash has cut off lacks its third word, or has a wrong ID: a
# name that is cut off could be another device's.
exec 9>>"$state" || exit 4
flock --nonblock 9 || { say "another run works on $state"; exit 4; }
remember() { printf '%s\n' "$*" >&9; }
# And it must not take the next line with it.
[[ ! -s $state || -z $(tail -c 1 "$state") ]] || echo >&9

if read -r word its_group began <"$state"; then
    [[ $word == rotation && $began =~ ^[0-9]+$ ]] || { say "$state is not the state of a rotation"; exit 4; }
    [[ $its_group == "$group" ]] || usage "--state: $state is of the group $its_group, not of $group"
else
    began=$(date +%s)
    remember "rotation $group $began"
fi

# The value of a member of an object on stdin. The CLI writes compact JSON,
# names and ids have no character that would be escaped.
member() { sed -n 's/.*"'"$1"'":"\{0,1\}\([A-Za-z0-9_~.:-]*\).*/\1/p'; }

# Whether a secret that was made in an earlier run has arrived after all.
has_arrived() {
    local name=$1 id=$2 secret
    secret=$(issuer device secret list "$name" --json | grep -F "\"id\":\"$id\"") || return 1
    [[ $secret == *'"last_used_at":'* ]]
}

rotate() {
    local name=$1 earlier=$2 added id code=0
    if [[ -n $earlier ]] && has_arrived "$name" "$earlier"; then
        remember "done $name $earlier"
        return
    fi
    # Its lines get the device's name, as several devices are at it.
    if ! added=$({ issuer device rotate-secret "$name" --overlap "$overlap" --json 2>&1 >&3 3>&- |
        sed "s/^/rotate-group: $name: /" >&2 9>&-; } 3>&1); then
        if issuer device show "$name" --json >/dev/null 2>&1 || (($? != 1)); then
            remember "failed $name -"
        else
            remember "gone $name -"
        fi
        return
    fi
    id=$(printf '%s' "$added" | member secret_id)
    remember "made $name $id"
    printf '%s\n' "$added" | FLEETBADGE_CLIENT_ID=$name bash -c "$each" >&2 9>&- || code=$?
    if ((code == 0)); then
        remember "done $name $id"
        sync "$state"
    else
        say "$name: COMMAND ended with exit code $code"
        remember "failed $name -"
    fi
}

# Each device of the group that has a secret: name and time of creation. Into
# a variable first, so that half a list is none.
devices=$(issuer device list --group "$group" --json) || exit
devices=$(sed -n '/"secrets":\[\]/d
    s/^{"client_id":"\([A-Za-z0-9_~.:-]*\)".*"status":"[a-z]*","created_at":\([0-9]*\).*/\1 \2/p' <<<"$devices")

declare -A finished made
while read -r word name id; do
    [[ -n $id ]] || continue
    case $word in
        done | gone) finished[$name]=$word ;;
        made) made[$name]=$id ;;
    esac
done < <(tail -n +2 "$state")

todo=() added_since=0 done_before=0
while read -r name created; do
    if [[ -z $name ]]; then
        continue
    elif [[ -n ${finished[$name]-} ]]; then
        done_before=$((done_before + 1))
    elif ((created > began)) && [[ -z ${made[$name]-} ]]; then
        added_since=$((added_since + 1))
    else
        todo+=("$name")
    fi
done <<<"$devices"
say "group $group: ${#todo[@]} devices to do, $done_before done before, $added_since added since"

interrupted=
trap 'interrupted=yes' INT TERM
started=0 running=0
for name in ${todo[@]+"${todo[@]}"}; do
    [[ -z $interrupted ]] || break
    if ((running >= parallel)); then
        wait -n || true
        running=$((running - 1))
    fi
    rotate "$name" "${made[$name]-}" &
    started=$((started + 1)) running=$((running + 1))
    ((started % 100)) || say "$started of ${#todo[@]} begun"
done
wait

# The last word on each device counts.
declare -A last
while read -r word name id; do
    [[ -z $id ]] || last[$name]=$word
done < <(tail -n +2 "$state")
missing=() handed_over=0
for name in ${todo[@]+"${todo[@]}"}; do
    case ${last[$name]-} in
        done) handed_over=$((handed_over + 1)) ;;
        gone) ;;
        *) missing+=("$name") ;;
    esac
done
sync "$state"
say "handed over: $handed_over; without: ${#missing[@]}"
if ((${#missing[@]})); then
    say 'run this again with the same --state to try these again:'
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
fi
