#!/usr/bin/env bash
# QoS 1 into a durable queue, every PUBACK after its sync: 50 publishers with 20 in flight each, then one message at a
# time. From the project's root: test/bench/durable.sh [seconds] [folder on the disk to measure]
# Prints messages a second, the broker's CPU µs a message, and the bytes written a message (zeros of fresh segments apart).
# Needs gcc, curl and a built project.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) secs=${1:-5} tmp=$(mktemp -d) data=$(mktemp -d -p "${2:-.}" bench-data-XXXXXX)
trap 'kill ${broker:-} 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$tmp" "$data"' EXIT
gcc -O2 -w -o "$tmp/mqload" "$here/mqload.c"
printf 'queues:\n  - name: load\n    bindings: ["load/#"]\n' >"$tmp/motemq.yaml"
node bin/motemq.js start --config "$tmp/motemq.yaml" --data "$data" --listen mqtt://127.0.0.1:0 \
  --listen http://127.0.0.1:0 >"$tmp/log" 2>&1 & broker=$!
for _ in $(seq 100); do grep -q '"ready"' "$tmp/log" && break; sleep .1; done
port() { grep -o "$1://127.0.0.1:[0-9]*" "$tmp/log" | head -1 | grep -o '[0-9]*$'; }
metric() { curl -s "127.0.0.1:$(port http)/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
written() { metric motemq_journal_written_bytes_total; }
run() { # name, mqload arguments
  local before after out queued
  before=$(written); queued=$(metric motemq_messages_ready)
  out=$("$tmp/mqload" -p "$(port mqtt)" -B "$broker" -S 0 -q 1 -s 100 -d "$secs" "${@:2}" | tail -1)
  sleep 1.2 # what is lazy is written
  after=$(written)
  echo "$out" | node -e '
    const [name, bytes, count] = process.argv.slice(1)
    const r = JSON.parse(require("fs").readFileSync(0))
    console.log(name.padEnd(34), String(r.sent_s).padStart(8), "msgs/s", r.cpu_us_per_msg.toFixed(2).padStart(7), "CPU us",
      (bytes / count).toFixed(0).padStart(6), "bytes written a message", String(r.rss_mb).padStart(6), "MB")
  ' "$1" $((after - before)) $(($(metric motemq_messages_ready) - queued))
}
run '50 publishers, 20 in flight each' -P 50 -w 20
run 'one publisher, one in flight' -P 1 -w 1
