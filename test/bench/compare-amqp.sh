#!/usr/bin/env bash
# Motemq beside RabbitMQ over AMQP 0-9-1, in one run, from the project's root: test/bench/compare-amqp.sh [seconds a scenario]
# Needs gcc, rabbitmq-server (Debian's package; run as a private, plain process on free ports) and a built project.
# consumed (or, without consumers, confirmed) messages a second, the broker's CPU µs a message, p99, memory; and the ratios.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) secs=${1:-3} tmp=$(mktemp -d)
cleanup() { kill ${mote:-} ${beam:-} ${rabbit:-} 2>/dev/null || true; sleep 2; kill -9 ${beam:-} ${rabbit:-} ${epmd:-} 2>/dev/null || true; rm -rf "$tmp"; }
trap cleanup EXIT
gcc -O2 -w -o "$tmp/amqpload" "$here/amqpload.c"
free() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
up() { for _ in $(seq 400); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep .1; done; echo "nothing listens on $1" >&2; exit 1; }
pr=$(free) pt=$(free) pd=$(free) pe=$(free)
mkdir -p "$tmp"/{mnesia,log,home}; echo '[].' >"$tmp/none.config"; echo '[].' >"$tmp/plugins"; printf 'listeners.tcp.local = 127.0.0.1:%s\n' "$pr" >"$tmp/rabbitmq.conf"
export HOME=$tmp/home RABBITMQ_NODENAME="compare$pr@localhost" RABBITMQ_MNESIA_BASE=$tmp/mnesia RABBITMQ_LOG_BASE=$tmp/log RABBITMQ_CONF_ENV_FILE=/dev/null \
  RABBITMQ_ADVANCED_CONFIG_FILE=$tmp/none.config RABBITMQ_CONFIG_FILE=$tmp/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$tmp/plugins RABBITMQ_PID_FILE=$tmp/pid \
  RABBITMQ_DIST_PORT=$pd ERL_EPMD_PORT=$pe ERL_EPMD_ADDRESS=127.0.0.1
epmd -relaxed_command_check -port "$pe" -address 127.0.0.1 >/dev/null 2>&1 & epmd=$!
PATH=/usr/lib/rabbitmq/bin:$PATH rabbitmq-server >"$tmp/r.log" 2>&1 & rabbit=$!
node bin/motemq.js start --data "$tmp/data" --listen "amqp://127.0.0.1:$pt" >"$tmp/t.log" 2>&1 & mote=$!
up "$pr"; up "$pt"; sleep 3
beam=$(ss -ltnpH "sport = :$pr" | sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -1)
scenario() { local name=$1; shift; for b in "rabbitmq:$pr:$beam" "motemq:$pt:$mote" ${PEERS:-}; do IFS=: read -r who port pid <<<"$b"
  printf '%s\t%s\t%s\n' "$name" "$who" "$("$tmp/amqpload" -p "$port" -B "$pid" -z "$secs" "$@" 2>&1 | tail -1)"; done; }
{ scenario '1>1 no-ack' -x 1 -y 1
  scenario '1>1 ack, prefetch 100' -x 1 -y 1 -a 1 -P 100
  scenario '1>1 durable, confirms' -x 1 -y 1 -a 10 -P 200 -d -c -W 200
  scenario '1>0 durable, confirms' -x 1 -y 0 -d -c -W 200
  scenario '10>10, 10 queues' -x 10 -y 10 -q 10 -W 200
} | python3 -c '
import sys, json, collections
rows = collections.OrderedDict()
for l in sys.stdin:
    n, w, j = l.rstrip("\n").split("\t", 2)
    try: rows.setdefault(n, collections.OrderedDict())[w] = json.loads(j)
    except ValueError: rows.setdefault(n, collections.OrderedDict())[w] = None; print(f"{n}: {w}: {j}", file=sys.stderr)
rate = lambda r: r["recv_s"] if r["consumers"] else r["confirm_s"]
print("scenario".ljust(26), "broker".ljust(10), "msgs/s".rjust(9), "cpu us".rjust(8), "p99 us".rjust(8), "MB".rjust(6), "  rate x", " cpu x   (against rabbitmq)")
for n, bs in rows.items():
    base = bs.get("rabbitmq")
    for w, r in bs.items():
        if not r: print(n.ljust(26), w.ljust(10), "failed"); continue
        f = (rate(r) / rate(base), r["cpu_us_per_msg"] / max(base["cpu_us_per_msg"], 1e-9)) if base else (0, 0)
        print(n.ljust(26), w.ljust(10), "%9d %8.2f %8d %6.0f  %6.2f %6.2f" % (rate(r), r["cpu_us_per_msg"], r["p99_us"], r["rss_mb"], *f))'
