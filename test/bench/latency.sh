#!/usr/bin/env bash
# Latency beside Mosquitto and beside the bare disk, in one run, in turns, from the project's root:
#   test/bench/latency.sh [rounds] [folder on the disk to measure]
# One client with one message at a time: QoS 0, QoS 1 to a clean session, QoS 1 into a durable queue (a sync each) beside a bare
# write + fdatasync of 4 KiB in the same folder, and beside a server in C that does nothing but that in a second thread; then 200
# sparse clients. Prints medians over the rounds of each round's figure, and the median of the rounds' ratios. In the rows beside
# Mosquitto with one client the broker has the first core and the client the second: left to the scheduler, the two share a core in
# one run and not in the next, and that is twice the time. Needs gcc, taskset, mosquitto (Debian's package) and a built project.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) rounds=${1:-7} tmp=$(mktemp -d) data=$(mktemp -d -p "${2:-.}" bench-data-XXXXXX)
trap 'kill ${mosq:-} ${mote:-} 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$tmp" "$data"' EXIT
gcc -O2 -w -pthread -o "$tmp/latency" "$here/latency.c"
gcc -O2 -w -o "$tmp/mqload" "$here/mqload.c"
free() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
up() { for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep .1; done; echo "nothing listens on $1" >&2; exit 1; }
pm=$(free) pt=$(free)
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$pm" >"$tmp/m.conf"
printf 'queues:\n  - name: load\n    bindings: ["durable/#"]\n' >"$tmp/motemq.yaml"
"$(command -v mosquitto || echo /usr/sbin/mosquitto)" -c "$tmp/m.conf" >"$tmp/m.log" 2>&1 & mosq=$!
node bin/motemq.js start --config "$tmp/motemq.yaml" --data "$data/broker" --listen "mqtt://127.0.0.1:$pt" >"$tmp/t.log" 2>&1 & mote=$!
up "$pm"; up "$pt"
"$tmp/latency" sync "$data/bare" 10 >/dev/null # fills the file
for port in "$pt" "$pm"; do # some traffic first: a broker is measured as it is when it has run for a while
  for qos in 0 1; do "$tmp/mqload" -p "$port" -P 20 -S 1 -q "$qos" -w 1 -d 1 >/dev/null; done
done
"$tmp/latency" mqtt "$pt" 1 5000 durable/a >/dev/null
cores() { for pid in "$mosq" "$mote"; do taskset -acp "$1" "$pid" >/dev/null; done; }
alone() { taskset -c 1 "$tmp/latency" "$@" >>"$tmp/${name// /_}"; }
one() { "$tmp/latency" "$@" >>"$tmp/${name// /_}"; }
sparse() { "$tmp/mqload" -p "$1" -P 200 -S 1 -q 0 -r 2000 -d 3 | node -e 'const r = JSON.parse(require("fs").readFileSync(0)); console.log(r.p50_us, r.p99_us)' >>"$tmp/${name// /_}"; }
for ((round = 0; round < rounds; round++)); do
  cores 0
  for qos in 0 1; do
    name="q$qos motemq" alone mqtt "$pt" "$qos" 2000
    name="q$qos mosquitto" alone mqtt "$pm" "$qos" 2000
  done
  cores 0-1
  name='sync motemq' one mqtt "$pt" 1 600 durable/a
  name='sync bare' one sync "$data/bare" 600
  name='sync floor' one floor "$data/bare" 600
  name='sparse motemq' sparse "$pt"
  name='sparse mosquitto' sparse "$pm"
done
node -e '
  process.chdir(process.argv[1])
  const { readFileSync } = require("fs")
  const read = file => readFileSync(file, "utf8").trim().split("\n").map(line => line.split(" ").map(Number))
  const median = list => list.toSorted((a, b) => a - b)[list.length >> 1]
  console.log("what".padEnd(44), "Motemq us".padStart(10), "beside us".padStart(10), " ratio", "  goal")
  const row = (name, ours, column, theirs, theirColumn, goal) => {
    const a = read(ours).map(line => line[column]), b = read(theirs).map(line => line[theirColumn])
    console.log(name.padEnd(44), median(a).toFixed(1).padStart(10), median(b).toFixed(1).padStart(10), median(a.map((v, i) => v / b[i])).toFixed(2).padStart(6), goal)
  }
  row("QoS 0, delivered, p50", "q0_motemq", 0, "q0_mosquitto", 0, "  1.2 x Mosquitto")
  row("QoS 0, delivered, p99", "q0_motemq", 2, "q0_mosquitto", 2, "")
  row("QoS 1 to a clean session, delivered, p50", "q1_motemq", 0, "q1_mosquitto", 0, "  1.2 x Mosquitto")
  row("QoS 1 to a clean session, PUBACK, p50", "q1_motemq", 1, "q1_mosquitto", 1, "  1.2 x Mosquitto")
  row("QoS 1 to a clean session, PUBACK, p99", "q1_motemq", 3, "q1_mosquitto", 3, "")
  row("QoS 1 with a sync, PUBACK, p50", "sync_motemq", 1, "sync_bare", 0, "  1.3 x write + fdatasync")
  row("QoS 1 with a sync, PUBACK, p99", "sync_motemq", 3, "sync_bare", 1, "")
  row("  and beside the same in a bare server", "sync_motemq", 1, "sync_floor", 0, "")
  row("200 sparse clients, delivered, p50", "sparse_motemq", 0, "sparse_mosquitto", 0, "")
  row("200 sparse clients, delivered, p99", "sparse_motemq", 1, "sparse_mosquitto", 1, "  1.5 x Mosquitto")
' "$tmp"
