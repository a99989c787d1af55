#!/bin/sh
# Sends UDP packets with the kernel's packet generator, pktgen, and says how many went out.
# README.md beside this file explains it; `pktgen.sh -h` lists the options.
set -u

PKTGEN=/proc/net/pktgen
# The generator counts frames without the four bytes of their checksum.
LEAST=60
MOST=9014

usage() {
    cat <<'END'
usage: pktgen.sh -i DEVICE -m MAC -d ADDRESS[-ADDRESS] [OPTION...]

  -i DEVICE             send out of this interface
  -m MAC                to this MAC address: the balancer's, or the next router's
  -d ADDRESS[-ADDRESS]  to these IPv4 addresses, one after the other
  -s ADDRESS[-ADDRESS]  from these (else the interface's own)
  -p PORT[-PORT]        to these UDP ports (53)
  -q PORT[-PORT]        from these (1024)
  -l BYTES              length of a frame without its checksum, 60 to 9014 (60)
  -n COUNT              packets a thread; 0 sends until Ctrl-C (1000000)
  -w NANOSECONDS        wait between two packets of a thread (0)
  -t THREADS            how many threads, each on a CPU of its own (1)
  -c CPU                the first thread's CPU, the others' follow (0)
END
}

fail() {
    echo "pktgen.sh: $*" >&2
    exit 2
}

# number VALUE LEAST MOST OPTION
number() {
    case $1 in
        '' | *[!0-9]* | ???????????*) fail "$4: \`$1\` is not a number from $2 to $3" ;;
    esac
    [ "$1" -ge "$2" ] && [ "$1" -le "$3" ] || fail "$4: $1 is not from $2 to $3"
}

# value ADDRESS OPTION: an IPv4 address as a number, in `value`
value() {
    case $1 in
        *[!0-9.]* | '' | .* | *. | *..*) fail "$2: \`$1\` is not an IPv4 address" ;;
    esac
    old=$IFS
    IFS=.
    # shellcheck disable=SC2086 # to be split at the dots
    set -- "$2" "$1" $1
    IFS=$old
    [ $# -eq 6 ] || fail "$1: \`$2\` is not an IPv4 address"
    for byte in "$3" "$4" "$5" "$6"; do
        case $byte in
            ????* | 0?*) fail "$1: \`$2\` is not an IPv4 address" ;;
        esac
        [ "$byte" -le 255 ] || fail "$1: \`$2\` is not an IPv4 address"
    done
    value=$((($3 << 24) + ($4 << 16) + ($5 << 8) + $6))
}

# addresses RANGE OPTION
addresses() {
    value "${1%%-*}" "$2"
    first=$value
    value "${1#*-}" "$2"
    [ "$first" -le "$value" ] || fail "$2: \`$1\` ends before it begins"
}

# ports RANGE OPTION
ports() {
    number "${1%%-*}" 1 65535 "$2"
    number "${1#*-}" 1 65535 "$2"
    [ "${1%%-*}" -le "${1#*-}" ] || fail "$2: \`$1\` ends before it begins"
}

check() {
    [ -n "$device" ] || fail "-i is missing: out of which interface? (-h lists the options)"
    [ -n "$mac" ] || fail "-m is missing: to which MAC address? \`ip neighbour\` knows it"
    [ -n "$destinations" ] || fail "-d is missing: to which address?"
    digits='[0-9a-fA-F][0-9a-fA-F]'
    case $mac in
        $digits:$digits:$digits:$digits:$digits:$digits) ;;
        *) fail "-m: \`$mac\` is not a MAC address" ;;
    esac
    addresses "$destinations" -d
    [ -z "$sources" ] || addresses "$sources" -s
    ports "$ports" -p
    ports "$source_ports" -q
    number "$length" $LEAST $MOST -l
    number "$count" 0 4294967295 -n
    number "$delay" 0 4294967295 -w
    number "$threads" 1 1024 -t
    number "$cpu" 0 1023 -c
    grep -q "^ *$device:" /proc/net/dev || fail "-i: there is no interface \`$device\` here"
}

# Makes sure that the kernel has a generator and enough idle threads of it.
find_pktgen() {
    [ "$(id -u)" = 0 ] || fail "only root may use the kernel's generator"
    [ -e $PKTGEN/pgctrl ] || modprobe pktgen 2>/dev/null
    [ -e $PKTGEN/pgctrl ] || fail "this kernel has no pktgen (CONFIG_NET_PKTGEN)"
    thread=$cpu
    while [ "$thread" -lt $((cpu + threads)) ]; do
        file=$PKTGEN/kpktgend_$thread
        [ -e "$file" ] || fail "there is no CPU $thread for a thread"
        # Two lists of devices, both empty.
        [ "$(grep -Ec '^(Running|Stopped): *$' "$file")" = 2 ] ||
            fail "CPU $thread's thread has other work: see $file"
        thread=$((thread + 1))
    done
}

# tell FILE WORDS: one command to the generator
tell() {
    { echo "$2" >"$PKTGEN/$1"; } 2>/dev/null && return
    fail "the kernel's generator refuses \`$2\`: $(grep -h '^Result:' "$PKTGEN/$1" 2>/dev/null)"
}

# Every thread has a device of its own: the interface's name, @ and the CPU.
set_up() {
    thread=$cpu
    while [ "$thread" -lt $((cpu + threads)) ]; do
        one=$device@$thread
        added="$added $thread"
        files="$files $PKTGEN/$one"
        tell "kpktgend_$thread" "add_device $one"
        tell "$one" "count $count"
        tell "$one" "pkt_size $length"
        tell "$one" "delay $delay"
        tell "$one" "dst_mac $mac"
        tell "$one" "dst_min ${destinations%%-*}"
        tell "$one" "dst_max ${destinations#*-}"
        [ -z "$sources" ] || tell "$one" "src_min ${sources%%-*}"
        [ -z "$sources" ] || tell "$one" "src_max ${sources#*-}"
        tell "$one" "udp_dst_min ${ports%%-*}"
        tell "$one" "udp_dst_max ${ports#*-}"
        tell "$one" "udp_src_min ${source_ports%%-*}"
        tell "$one" "udp_src_max ${source_ports#*-}"
        tell "$one" "flag QUEUE_MAP_CPU"
        thread=$((thread + 1))
    done
}

clean_up() {
    for thread in $added; do
        { echo rem_device_all >"$PKTGEN/kpktgend_$thread"; } 2>/dev/null
    done
}

# A line a thread, and their sum. The kernel says of each:
#   Result: OK: 1000(c900+d100) usec, 1000 (60byte,0frags)
#     1000000pps 480Mb/sec (480000000bps) errors: 0
report() {
    # shellcheck disable=SC2086 # one word a thread
    awk '
        /^Result: OK: / {
            time = $3 + 0
            rate = time ? $5 * 1000000 / time : 0
            sub(/.*@/, "", FILENAME)
            printf "CPU %s: %.0f packets in %.0f us, %.0f packets/s\n", FILENAME, $5, time, rate
            packets += $5
            sum += rate
            if (time > longest) longest = time
            lines += 1
        }
        / errors: [0-9]+$/ { errors += $NF }
        END {
            if (!lines) exit 1
            printf "sent %.0f packets in %.0f us, %.0f packets/s, %d errors\n", packets, longest, sum, errors
        }' $files || fail "the kernel's generator sent nothing: $(grep -h '^Result:' $files)"
}

device='' mac='' destinations='' sources='' ports=53 source_ports=1024
length=60 count=1000000 delay=0 threads=1 cpu=0 added='' files=''
while getopts i:m:d:s:p:q:l:n:w:t:c:h option; do
    case $option in
        i) device=$OPTARG ;;
        m) mac=$OPTARG ;;
        d) destinations=$OPTARG ;;
        s) sources=$OPTARG ;;
        p) ports=$OPTARG ;;
        q) source_ports=$OPTARG ;;
        l) length=$OPTARG ;;
        n) count=$OPTARG ;;
        w) delay=$OPTARG ;;
        t) threads=$OPTARG ;;
        c) cpu=$OPTARG ;;
        h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || fail "\`$1\` is one word too many (-h lists the options)"

check
find_pktgen
trap clean_up EXIT
# The write that starts the threads returns when they are done, or when a signal comes, which
# stops them. What they sent until then is reported all the same.
trap : INT TERM HUP
set_up
{ echo start >$PKTGEN/pgctrl; } 2>/dev/null
report
