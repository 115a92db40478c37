#!/usr/bin/env bash
# Motemq beside Mosquitto and the bare relay, in one run, from the project's root: test/bench/compare.sh [seconds a scenario]
# For each scenario: delivered messages a second, the broker's CPU µs a delivered message, p99 latency, memory; and the ratios.
# Needs gcc, mosquitto (Debian's package) and a built project. Closed loop, both brokers idle in between; quote ratios, not
# single figures. More brokers: PEERS="name:port:pid ..." for ones that you started yourself.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) secs=${1:-3} tmp=$(mktemp -d)
trap 'kill ${mosq:-} ${mote:-} ${relay:-} 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$tmp"' EXIT
gcc -O2 -w -o "$tmp/mqload" "$here/mqload.c"
free() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
up() { for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep .1; done; echo "nothing listens on $1" >&2; exit 1; }
pm=$(free) pt=$(free) pr=$(free)
printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 100000\n' "$pm" >"$tmp/m.conf"
"$(command -v mosquitto || echo /usr/sbin/mosquitto)" -c "$tmp/m.conf" >"$tmp/m.log" 2>&1 & mosq=$!
node bin/motemq.js start --data "$tmp/data" --listen "mqtt://127.0.0.1:$pt" >"$tmp/t.log" 2>&1 & mote=$!
node "$here/relay.mjs" "$pr" >/dev/null 2>&1 & relay=$!
up "$pm"; up "$pt"; up "$pr"
scenario() { # name, mqload arguments
  local name=$1; shift
  for b in "mosquitto:$pm:$mosq" "motemq:$pt:$mote" "relay:$pr:$relay" ${PEERS:-}; do
    IFS=: read -r who port pid <<<"$b"; [[ $who == relay && $name == *q2 ]] && continue # it knows no QoS 2
    printf '%s\t%s\t%s\n' "$name" "$who" "$("$tmp/mqload" -p "$port" -B "$pid" -d "$secs" "$@" 2>&1 | tail -1)"
  done
}
{ scenario 'fan-in 50>1 q0' -P 50 -S 1 -q 0 -w 50
  scenario 'pairs 50>50 q0' -P 50 -S 50 -m pair -q 0 -w 50
  scenario 'fan-out 1>100 q0' -P 1 -S 100 -q 0 -w 20
  scenario 'fan-in 50>1 q1' -P 50 -S 1 -q 1 -w 20
  scenario 'ping-pong 50>50 q1' -P 50 -S 50 -m pair -q 1 -w 1
  scenario 'fan-in 20>1 q2' -P 20 -S 1 -q 2 -w 10
  scenario 'sparse 200>1 q0 2000/s' -P 200 -S 1 -q 0 -r 2000
} | tee "$tmp/rows" | python3 -c '
import sys, json, collections
rows = collections.OrderedDict()
for l in sys.stdin:
    n, w, j = l.rstrip("\n").split("\t", 2)
    try: rows.setdefault(n, collections.OrderedDict())[w] = json.loads(j)
    except ValueError: rows.setdefault(n, collections.OrderedDict())[w] = None; print(f"{n}: {w}: {j}", file=sys.stderr)
print("scenario".ljust(26), "broker".ljust(10), "recv/s".rjust(9), "cpu us".rjust(8), "p99 us".rjust(8), "MB".rjust(6), "  rate x", " cpu x", " cpu/relay   (x: against mosquitto; rate: more is better, cpu: less is better)")
for n, bs in rows.items():
    base = bs.get("mosquitto")
    for w, r in bs.items():
        if not r: print(n.ljust(26), w.ljust(10), "failed"); continue
        f = (r["recv_s"] / base["recv_s"], r["cpu_us_per_msg"] / max(base["cpu_us_per_msg"], 1e-9)) if base else (0, 0)
        rel = bs.get("relay"); k = r["cpu_us_per_msg"] / max(rel["cpu_us_per_msg"], 1e-9) if rel else 0
        print(n.ljust(26), w.ljust(10), "%9d %8.2f %8d %6.0f  %6.2f %6.2f %6.2f" % (r["recv_s"], r["cpu_us_per_msg"], r["p99_us"], r["rss_mb"], *f, k))'
