// Many MQTT 3.1.1 clients in one process, over raw sockets and one epoll: gcc -O2 -o swarm swarm.c; ./swarm -h 127.0.0.1 -P 1883 -n 5000 ...
//   -n clients  -i number of the first  -p client id's prefix  -s source address  -r connects a second (0: at once)
//   -C clean session 0|1  -k keepalive seconds  -A 1: a client that is refused or cut off comes back
//   -f filter (%d: the client's number)  -g its QoS  -t topic (%d)  -q QoS  -R messages a second and client  -b payload bytes
//   -W most unacknowledged messages of a client
// It connects at once and takes commands, a line each, on standard input: publish, pause, reset (counters and histograms),
// report, levels (how far each publisher is acknowledged, and received), end (a DISCONNECT each, then exit). Each report is one
// line of JSON on standard output. The end of the input ends it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RING 256              // send times of a client's messages, by packet id
#define PENDING_MAX 512       // connects under way at once
#define HEAD 24               // publisher, sequence and time at a payload's begin
enum { IDLE, DIALLING, WAITING, UP };

typedef struct {
  int fd, state, wantsOut;
  uint64_t retryAt, dialledAt;
  uint8_t *in, *out;          // only what is left over
  uint32_t inLen, inCap, outLen, outCap;
  uint16_t packetId;
  uint32_t inFlight;
  uint64_t sequence, received, acked; // acked: since the start
  uint64_t *sentAt;
} client;

typedef struct { uint64_t buckets[2048], count, max; } histogram;

static struct { char *host, *source, *prefix, *filter, *topic; int port, n, first, clean, keepalive, retry, subQos, qos, bytes, window; double connectRate, rate; }
  o = {"127.0.0.1", "", "c", "", "", 1883, 1, 0, 1, 300, 0, 0, 0, 64, 50, 0, 0};
static client *clients;
static int ep, isPublishing, isEnding;
static uint64_t startedAt, lastUpAt;
static struct { uint64_t sent, acked, received, duplicates, gaps, foreign, refused, cut, skipped; } count;
static uint64_t upCount, everUp, present, absent, pendingCount;
static histogram connectTimes, deliveryTimes, ackTimes;
static uint64_t *nextOf; static uint32_t nextCap;   // the next sequence of each publisher, when one client takes all
static uint8_t chunk[1 << 20];

static uint64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }

// Buckets about 3 % wide: 32 a power of two, from 1 us.
static int bucketOf(uint64_t us) { if (us < 32) return us; int e = 63 - __builtin_clzll(us); int b = (e - 4) * 32 + ((us >> (e - 5)) & 31); return b < 2048 ? b : 2047; }
static double bucketEnd(int b) { if (b < 32) return b + 1; int e = b / 32 + 4; return (double)((33ull + (b & 31)) << (e - 5)); }
static void note(histogram *h, uint64_t ns) { uint64_t us = ns / 1000; h->buckets[bucketOf(us)]++; h->count++; if (us > h->max) h->max = us; }
static double quantile(histogram *h, double p) {
  uint64_t sum = 0; if (h->count == 0) return 0;
  for (int b = 0; b < 2048; b++) { sum += h->buckets[b]; if (sum >= h->count * p) { double v = bucketEnd(b); return v < h->max ? v : h->max; } }
  return h->max;
}
static void printHistogram(const char *name, histogram *h) {
  printf(",\"%s\":{\"count\":%lu,\"p50Ms\":%.3f,\"p99Ms\":%.3f,\"maxMs\":%.3f}", name, h->count, quantile(h, .5) / 1e3, quantile(h, .99) / 1e3, h->max / 1e3);
}

static void want(client *c, int out) {
  if (out == c->wantsOut) return;
  struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e); c->wantsOut = out;
}
static void push(client *c, const void *bytes, uint32_t length) {
  if (c->outLen + length > c->outCap) { c->outCap = (c->outLen + length) * 2; c->out = realloc(c->out, c->outCap); }
  memcpy(c->out + c->outLen, bytes, length); c->outLen += length;
}
static void lose(client *c) {
  if (c->fd < 0) return;
  if (c->state == UP) upCount--; else pendingCount--;
  close(c->fd); c->fd = -1; c->state = IDLE; c->inLen = c->outLen = 0; c->wantsOut = 0; c->inFlight = 0;
  if (!isEnding) count.cut++;
  c->retryAt = o.retry ? now() + 100000000ull + (uint64_t)(rand() % 400) * 1000000 : UINT64_MAX;
}
static void flush(client *c) {
  uint32_t done = 0;
  while (done < c->outLen) {
    ssize_t w = write(c->fd, c->out + done, c->outLen - done);
    if (w < 0) { if (errno == EINTR) continue; if (errno == EAGAIN) break; lose(c); return; }
    done += w;
  }
  memmove(c->out, c->out + done, c->outLen - done); c->outLen -= done;
  if (c->outLen == 0 && c->outCap > 4096) { free(c->out); c->out = NULL; c->outCap = 0; }
  want(c, c->outLen > 0);
}

static void sendConnect(client *c) {
  char id[64]; int il = snprintf(id, 64, "%s%d", o.prefix, o.first + (int)(c - clients));
  uint8_t m[96] = {0x10, 12 + il, 0, 4, 'M', 'Q', 'T', 'T', 4, o.clean ? 2 : 0, o.keepalive >> 8, o.keepalive & 255, 0, il};
  memcpy(m + 14, id, il); push(c, m, 14 + il); c->state = WAITING; flush(c);
}
static void sendSubscribe(client *c) {
  char filter[100]; int fl = snprintf(filter, 100, o.filter, o.first + (int)(c - clients));
  uint8_t m[128] = {0x82, 5 + fl, 0xff, 0xff, 0, fl}; memcpy(m + 6, filter, fl); m[6 + fl] = o.subQos;
  push(c, m, 7 + fl); flush(c);
}
static void isUp(client *c) {
  c->state = UP; pendingCount--; upCount++; everUp++; lastUpAt = now(); note(&connectTimes, lastUpAt - c->dialledAt);
}
static void dial(client *c, struct sockaddr_in *to) {
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); if (c->fd < 0) { perror("socket"); exit(3); }
  int one = 1; setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, 4);
  if (*o.source) {
    struct sockaddr_in from = {.sin_family = AF_INET}; inet_pton(AF_INET, o.source, &from.sin_addr);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, 4);
    if (bind(c->fd, (void *)&from, sizeof from)) { perror("bind"); exit(3); }
  }
  pendingCount++; c->state = DIALLING; c->dialledAt = now();
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c}; c->wantsOut = 1; epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
  if (connect(c->fd, (void *)to, sizeof *to) && errno != EINPROGRESS) lose(c);
}

static uint32_t putLength(uint8_t *b, uint32_t v) { uint32_t i = 0; do { uint8_t d = v % 128; v /= 128; b[i++] = v ? d | 128 : d; } while (v); return i; }
static void publish(client *c) {
  static uint8_t m[1 << 20]; uint32_t at = 1; char topic[100];
  uint32_t id = o.first + (c - clients); int tl = snprintf(topic, 100, o.topic, id); uint64_t t = now();
  m[0] = 0x30 | o.qos << 1; at += putLength(m + 1, 2 + tl + (o.qos ? 2 : 0) + o.bytes);
  m[at++] = tl >> 8; m[at++] = tl; memcpy(m + at, topic, tl); at += tl;
  if (o.qos) { if (++c->packetId == 0) c->packetId = 1; m[at++] = c->packetId >> 8; m[at++] = c->packetId; c->inFlight++;
    if (!c->sentAt) c->sentAt = calloc(RING, 8);
    c->sentAt[c->packetId % RING] = t; }
  memcpy(m + at, &id, 4); memset(m + at + 4, 0, 4); memcpy(m + at + 8, &c->sequence, 8); memcpy(m + at + 16, &t, 8);
  c->sequence++; push(c, m, at + o.bytes); count.sent++;
}

static void gotPublish(client *c, uint8_t first, uint8_t *b, uint32_t length) {
  uint32_t tl = b[0] << 8 | b[1]; uint8_t *p = b + 2 + tl; int qos = first >> 1 & 3;
  if (qos) { uint8_t ack[4] = {0x40, 2, p[0], p[1]}; push(c, ack, 4); p += 2; }
  c->received++; count.received++;
  if (p + HEAD > b + length) { count.foreign++; return; }
  uint32_t id; uint64_t sequence, t; memcpy(&id, p, 4); memcpy(&sequence, p + 8, 8); memcpy(&t, p + 16, 8);
  note(&deliveryTimes, now() - t);
  if (o.n != 1 || id > 10000000) return;
  if (id >= nextCap) { uint32_t cap = id * 2 + 64; nextOf = realloc(nextOf, cap * 8ull); memset(nextOf + nextCap, 0, (cap - nextCap) * 8ull); nextCap = cap; }
  if (sequence < nextOf[id]) count.duplicates++;
  else { count.gaps += sequence - nextOf[id]; nextOf[id] = sequence + 1; }
}
static void got(client *c, uint8_t first, uint8_t *b, uint32_t length) {
  int type = first >> 4;
  if (type == 3) gotPublish(c, first, b, length);
  else if (type == 4) { uint16_t id = b[0] << 8 | b[1]; count.acked++; c->acked++; if (c->inFlight) c->inFlight--; if (c->sentAt) note(&ackTimes, now() - c->sentAt[id % RING]); }
  else if (type == 2) {
    if (b[1]) { count.refused++; lose(c); return; }
    if (b[0] & 1) present++; else absent++;
    if (*o.filter && !(b[0] & 1)) sendSubscribe(c); else isUp(c);
  } else if (type == 9) { if (b[2] > 2) { count.refused++; lose(c); } else if (c->state == WAITING) isUp(c); }
}
static void readClient(client *c) {
  memcpy(chunk, c->in, c->inLen);
  ssize_t r = read(c->fd, chunk + c->inLen, sizeof chunk - c->inLen);
  if (r < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (r <= 0) { lose(c); return; }
  uint32_t have = c->inLen + r, at = 0;
  while (c->fd >= 0 && have - at >= 2) {
    uint32_t length = 0, head = 1; int shift = 0, whole = 0;
    while (at + head < have && head <= 4) { uint8_t d = chunk[at + head++]; length |= (d & 127u) << shift; shift += 7; if (!(d & 128)) { whole = 1; break; } }
    if (!whole || have - at < head + length) break;
    got(c, chunk[at], chunk + at + head, length); at += head + length;
  }
  if (c->fd < 0) return;
  c->inLen = have - at;
  if (c->inLen > c->inCap) { c->inCap = c->inLen * 2; c->in = realloc(c->in, c->inCap); }
  if (c->inLen) memcpy(c->in, chunk + at, c->inLen); else if (c->inCap) { free(c->in); c->in = NULL; c->inCap = 0; }
  if (c->outLen && !c->wantsOut) flush(c);
}

static void reset(void) {
  memset(&count, 0, sizeof count); memset(&connectTimes, 0, sizeof connectTimes); memset(&deliveryTimes, 0, sizeof deliveryTimes); memset(&ackTimes, 0, sizeof ackTimes);
  for (int i = 0; i < o.n; i++) clients[i].received = 0;
}
static void report(void) {
  uint64_t least = UINT64_MAX, most = 0, inFlight = 0;
  for (int i = 0; i < o.n; i++) { client *c = &clients[i]; if (c->received < least) least = c->received; if (c->received > most) most = c->received; inFlight += c->inFlight; }
  printf("{\"up\":%lu,\"everUp\":%lu,\"present\":%lu,\"absent\":%lu,\"lastUpMs\":%.1f,\"refused\":%lu,\"cut\":%lu", upCount, everUp, present, absent, everUp ? (lastUpAt - startedAt) / 1e6 : 0, count.refused, count.cut);
  printf(",\"sent\":%lu,\"acked\":%lu,\"inFlight\":%lu,\"skipped\":%lu,\"received\":%lu,\"leastReceived\":%lu,\"mostReceived\":%lu,\"duplicates\":%lu,\"gaps\":%lu,\"foreign\":%lu", count.sent, count.acked, inFlight, count.skipped, count.received, least, most, count.duplicates, count.gaps, count.foreign);
  printHistogram("connect", &connectTimes); printHistogram("delivery", &deliveryTimes); printHistogram("ack", &ackTimes);
  printf("}\n"); fflush(stdout);
}
static void levels(void) {
  printf("{\"acked\":["); for (int i = 0; i < o.n; i++) printf(i ? ",%lu" : "%lu", clients[i].acked);
  printf("],\"next\":["); for (uint32_t i = 0; i < nextCap; i++) printf(i ? ",%lu" : "%lu", nextOf[i]);
  printf("]}\n"); fflush(stdout);
}
static void end(void) {
  static const uint8_t bye[2] = {0xe0, 0}; isEnding = 1;
  for (int i = 0; i < o.n; i++) if (clients[i].state == UP) { if (write(clients[i].fd, bye, 2) < 0) count.cut++; shutdown(clients[i].fd, SHUT_WR); }
  exit(0);
}
static void command(void) {
  static char line[256]; static int length; char b[64]; ssize_t r = read(0, b, sizeof b);
  if (r <= 0) exit(0);
  for (int i = 0; i < r; i++) {
    if (b[i] != '\n') { if (length < 255) line[length++] = b[i]; continue; }
    line[length] = 0; length = 0;
    if (!strcmp(line, "publish")) isPublishing = 1;
    else if (!strcmp(line, "pause")) isPublishing = 0;
    else if (!strcmp(line, "reset")) reset();
    else if (!strcmp(line, "report")) report();
    else if (!strcmp(line, "levels")) levels();
    else if (!strcmp(line, "end")) end();
  }
}

// Publishes what is due, in turn; a client whose window is full loses its turn.
static void publishDue(uint64_t t) {
  static uint64_t last; static double credit; static int turn;
  if (!last || !isPublishing) { last = t; credit = 0; return; }
  credit += (t - last) / 1e9 * o.rate * o.n; last = t;
  if (credit > o.rate * o.n) credit = o.rate * o.n; // after a stall at most a second's
  for (; credit >= 1; credit--) {
    client *c = &clients[turn]; turn = (turn + 1) % o.n;
    if (c->state != UP || (o.qos && c->inFlight >= (uint32_t)o.window) || c->outLen > 1 << 16) { count.skipped++; continue; }
    publish(c); if (!c->wantsOut) flush(c);
  }
}
static void dialDue(uint64_t t, struct sockaddr_in *to) {
  static int dialled; static int retryFrom;
  while (dialled < o.n && pendingCount < PENDING_MAX && (o.connectRate == 0 || dialled < (t - startedAt) / 1e9 * o.connectRate)) dial(&clients[dialled++], to);
  if (!o.retry) return;
  for (int i = 0; i < 2000 && i < dialled; i++) {
    client *c = &clients[retryFrom++ % dialled];
    if (c->fd < 0 && c->retryAt <= t && pendingCount < PENDING_MAX) dial(c, to);
  }
}

int main(int ac, char **av) {
  int x;
  while ((x = getopt(ac, av, "h:P:n:i:p:s:r:C:k:A:f:g:t:q:R:b:W:")) != -1) switch (x) {
    case 'h': o.host = optarg; break; case 'P': o.port = atoi(optarg); break; case 'n': o.n = atoi(optarg); break; case 'i': o.first = atoi(optarg); break;
    case 'p': o.prefix = optarg; break; case 's': o.source = optarg; break; case 'r': o.connectRate = atof(optarg); break; case 'C': o.clean = atoi(optarg); break;
    case 'k': o.keepalive = atoi(optarg); break; case 'A': o.retry = atoi(optarg); break; case 'f': o.filter = optarg; break; case 'g': o.subQos = atoi(optarg); break;
    case 't': o.topic = optarg; break; case 'q': o.qos = atoi(optarg); break; case 'R': o.rate = atof(optarg); break; case 'b': o.bytes = atoi(optarg); break;
    case 'W': o.window = atoi(optarg); break; default: return 2; }
  if (o.bytes < HEAD) o.bytes = HEAD;
  if (o.window > RING) o.window = RING;
  struct rlimit limit; getrlimit(RLIMIT_NOFILE, &limit); limit.rlim_cur = limit.rlim_max; setrlimit(RLIMIT_NOFILE, &limit);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(o.port)}; inet_pton(AF_INET, o.host, &to.sin_addr);
  clients = calloc(o.n, sizeof *clients); for (int i = 0; i < o.n; i++) clients[i].fd = -1;
  ep = epoll_create1(0); struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL}; epoll_ctl(ep, EPOLL_CTL_ADD, 0, &input);
  srand(getpid()); startedAt = now();
  for (;;) {
    struct epoll_event events[512]; int r = epoll_wait(ep, events, 512, 1);
    for (int i = 0; i < r; i++) {
      client *c = events[i].data.ptr;
      if (c == NULL) { command(); continue; }
      if (c->fd < 0) continue;
      if (c->state == DIALLING) {
        int error = 0; socklen_t l = sizeof error; getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &l);
        if (error) lose(c); else if (events[i].events & EPOLLOUT) sendConnect(c);
        continue;
      }
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readClient(c);
      if (c->fd >= 0 && events[i].events & EPOLLOUT) flush(c);
    }
    uint64_t t = now(); dialDue(t, &to); publishDue(t);
  }
}
