/** `motemq pub --help` and `motemq sub --help`. */
import type { ClientCommand } from './mosquitto-config.ts'

const CONNECTION = `Connection:
  -L, --url URL              mqtt(s)://[user[:password]@]host[:port][/topic], ws(s)://host[:port]/path,
                             mqtt+unix:///path; without it and -h, -p: $MOTEMQ_URL
  -h, --host HOST            default: localhost
  -p, --port PORT            default: 1883, with TLS 8883
  --unix PATH                Unix socket
  -A ADDRESS                 local address to connect from
  -S                         look the host up as _mqtt._tcp.HOST
  --proxy URL                socks5h://[user[:password]@]host[:port]
  -i, --id ID                client id          -I, --id-prefix TEXT  prefix and process id
  -V VERSION                 31, 311 (default), 5, mqttv31, mqttv311, mqttv5
  -u NAME, -P PASSWORD       user name and password
  -k SECONDS                 keepalive, default 60
  -c                         keep the session
  -x SECONDS                 session expiry interval (version 5), -1: for ever
  -M NUMBER                  most messages in flight, default 20
  -D COMMAND NAME VALUE      property (version 5); user-property has name and value
  --will-topic TOPIC [--will-payload TEXT] [--will-qos QOS] [--will-retain]
  -d debug lines   --quiet no errors   --nodelay accepted, always so
TLS:
  --cafile FILE, --capath DIR, --cert FILE, --key FILE, --tls-use-os-certs
  --insecure                 do not compare the host's name with the certificate
  --tls-version tlsv1.1|tlsv1.2|tlsv1.3   --ciphers LIST   --tls-alpn PROTOCOL
  --psk HEX --psk-identity NAME

Defaults are read from $XDG_CONFIG_HOME/mosquitto_COMMAND, else ~/.config/mosquitto_COMMAND.
`

const PUB = `Usage: motemq pub -t TOPIC (-m TEXT | -f FILE | -l | -n | -s) [options]

Publishes and ends; flags, output and exit codes are those of mosquitto_pub.

  -t, --topic TOPIC          where to
  -m, --message TEXT         the message        -f, --file FILE      a file's content
  -l, --stdin-line           a message a line   -s, --stdin-file     all of standard input
  -n, --null-message         an empty message
  -q, --qos QOS              0 (default), 1 or 2
  -r, --retain               keep it as the topic's last value
  --repeat N [--repeat-delay SECONDS]
`

const SUB = `Usage: motemq sub -t TOPIC... [options]

Prints messages; flags, formats and exit codes are those of mosquitto_sub.

  -t, --topic FILTER         may be repeated    -U FILTER   unsubscribe, may be repeated
  -q, --qos QOS              0 (default), 1 or 2
  -T, --filter-out FILTER    do not print these
  -C COUNT                   end after so many  -W SECONDS  end then, with exit code 27
  -E                         end when subscribed
  -R no retained messages    --retained-only    --remove-retained   --retain-as-published
  --random-filter PERCENT    print so many of them
  -v, --verbose              topic and payload  -N  no newline behind a message
  -F FORMAT                  %t topic  %p payload  %x %X in hex  %l length  %q QoS  %r retain
                             %m id  %j %J JSON  %I %U @X time  %A %C %D %E %F %P %R %S properties
                             %10t %-10t %010l %.5t width, alignment, zeros, cut; \\n \\t \\0 \\e
  --pretty                   %j and %J in several lines
`

export function helpText(command: ClientCommand): string {
  const head = command === 'pub' ? PUB : SUB
  return `${head}${CONNECTION.replaceAll('COMMAND,', `${command},`).replaceAll('mosquitto_COMMAND', `mosquitto_${command}`)}`
}
