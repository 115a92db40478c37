// latency: one client, one message at a time, in microseconds.
//   latency mqtt PORT QOS COUNT [TOPIC]   a publisher and, when there is no TOPIC, a clean-session subscriber with the same QoS: the
//                                         next message leaves when this one is delivered and acknowledged. Prints two medians and
//                                         two 99th percentiles: delivered, acknowledged (0: not measured).
//   latency sync FILE COUNT               write + fdatasync of the next 4 KiB of a file of zeros, again and again.
//   latency floor FILE COUNT              the same behind a socket, in a second thread of a server that does nothing else: what a
//                                         broker whose network thread never waits for the disk can do at best.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define FILE_PAGES 4096
#define WARM_UP 200

static double now_us(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e6 + t.tv_nsec / 1e3; }
static int by_value(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return (x > y) - (x < y); }
static double at(double *v, int n, double p) { qsort(v, n, sizeof *v, by_value); return v[(int)(n * p)]; }
static void fail(const char *what) { perror(what); exit(3); }

static int dial(int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(fd, (void *)&a, sizeof a)) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}
static void send_all(int fd, const uint8_t *p, size_t n) { while (n > 0) { ssize_t w = write(fd, p, n); if (w <= 0) fail("write"); p += w; n -= w; } }
static void read_all(int fd, uint8_t *p, size_t n) { while (n > 0) { ssize_t r = read(fd, p, n); if (r <= 0) fail("read"); p += r; n -= r; } }
// The next packet, all of them shorter than 128 bytes here; returns its first byte.
static int next(int fd, uint8_t *body) { uint8_t h[2]; read_all(fd, h, 2); if (h[1] > 127) fail("long packet"); read_all(fd, body, h[1]); return h[0]; }
static void expect(int got, int type) { if (got >> 4 != type) { fprintf(stderr, "packet %x instead of type %d\n", got, type); exit(4); } }
static int logged_in(int port, const char *name) {
  int fd = dial(port); uint8_t b[128], m[64] = {0x10, 12 + strlen(name), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, strlen(name)};
  memcpy(m + 14, name, strlen(name)); send_all(fd, m, 14 + strlen(name)); expect(next(fd, b), 2); if (b[1]) fail("refused");
  return fd;
}

static void mqtt(int port, int qos, int count, const char *queue) {
  const char *topic = queue ? queue : "latency/a"; int tl = strlen(topic), pub = logged_in(port, "lat-p"), sub = -1; uint8_t b[256], m[256];
  double *got = calloc(count, sizeof *got), *acked = calloc(count, sizeof *acked);
  if (!queue) {
    sub = logged_in(port, "lat-s"); m[0] = 0x82; m[1] = 5 + tl; m[2] = 0; m[3] = 1; m[4] = 0; m[5] = tl; memcpy(m + 6, topic, tl); m[6 + tl] = qos;
    send_all(sub, m, 7 + tl); expect(next(sub, b), 9);
  }
  int body = 2 + tl + (qos ? 2 : 0) + 64; memset(m, 'x', sizeof m); m[0] = 0x30 | qos << 1; m[1] = body; m[2] = 0; m[3] = tl; memcpy(m + 4, topic, tl);
  for (int i = -WARM_UP; i < count; i++) {
    int id = (i + WARM_UP) % 60000 + 1; if (qos) { m[4 + tl] = id >> 8; m[5 + tl] = id & 255; }
    double t0 = now_us(), t_got = 0, t_ack = 0; send_all(pub, m, 2 + body);
    struct pollfd p[2] = {{.fd = pub, .events = POLLIN}, {.fd = sub, .events = POLLIN}}; int wait_ack = qos > 0, wait_got = sub >= 0;
    while (wait_ack || wait_got) {
      if (poll(p, sub >= 0 ? 2 : 1, 10000) <= 0) fail("nothing came");
      if (p[0].revents) { expect(next(pub, b), 4); t_ack = now_us() - t0; wait_ack = 0; }
      if (sub >= 0 && p[1].revents) {
        int first = next(sub, b); t_got = now_us() - t0; expect(first, 3); wait_got = 0;
        if (first & 6) { uint8_t a[4] = {0x40, 2, b[2 + tl], b[3 + tl]}; send_all(sub, a, 4); }
      }
    }
    if (i >= 0) { got[i] = t_got; acked[i] = t_ack; }
  }
  printf("%.1f %.1f %.1f %.1f\n", at(got, count, .5), at(acked, count, .5), at(got, count, .99), at(acked, count, .99));
}

static char page[PAGE] __attribute__((aligned(PAGE))); static int disk; static unsigned place;
static void open_disk(const char *file) {
  int fd = open(file, O_RDWR | O_CREAT, 0600); if (fd < 0) fail(file);
  if (lseek(fd, 0, SEEK_END) < (off_t)PAGE * FILE_PAGES) { for (int i = 0; i < FILE_PAGES; i++) if (pwrite(fd, page, PAGE, (off_t)i * PAGE) != PAGE) fail("pwrite"); fsync(fd); }
  memset(page, 'x', PAGE); disk = fd; place = (unsigned)now_us() % FILE_PAGES; // not the same pages in every round
}
static void sync_one(void) { if (pwrite(disk, page, PAGE, (off_t)(place++ % FILE_PAGES) * PAGE) != PAGE || fdatasync(disk)) fail("sync"); }

static void syncs(const char *file, int count) {
  double *took = calloc(count, sizeof *took); open_disk(file);
  for (int i = -WARM_UP / 10; i < count; i++) {
    double t0 = now_us(); sync_one();
    if (i >= 0) took[i] = now_us() - t0;
  }
  printf("%.1f %.1f\n", at(took, count, .5), at(took, count, .99));
}

static int done; static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; static pthread_cond_t go = PTHREAD_COND_INITIALIZER; static int work;
static void *disk_thread(void *none) {
  for (;;) {
    pthread_mutex_lock(&lock); while (!work) pthread_cond_wait(&go, &lock); work = 0; pthread_mutex_unlock(&lock);
    sync_one(); uint64_t one = 1; if (write(done, &one, 8) != 8) fail("eventfd");
  }
  return none;
}
static void serve(int listener) {
  int fd = accept(listener, NULL, NULL), one = 1, ep = epoll_create1(0); setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); done = eventfd(0, 0);
  struct epoll_event e = {.events = EPOLLIN, .data.fd = fd}; epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e); e.data.fd = done; epoll_ctl(ep, EPOLL_CTL_ADD, done, &e);
  pthread_t thread; pthread_create(&thread, NULL, disk_thread, NULL);
  for (;;) {
    if (epoll_wait(ep, &e, 1, -1) <= 0) continue;
    char b[256]; uint64_t count;
    if (e.data.fd == fd) { if (read(fd, b, sizeof b) <= 0) _exit(0); pthread_mutex_lock(&lock); work = 1; pthread_cond_signal(&go); pthread_mutex_unlock(&lock); }
    else { if (read(done, &count, 8) != 8) fail("eventfd"); if (write(fd, "@\2\0\1", 4) != 4) fail("write"); }
  }
}
static void floor_of(const char *file, int count) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; socklen_t al = sizeof a; uint8_t m[79] = {0}, b[4];
  int listener = socket(AF_INET, SOCK_STREAM, 0); if (bind(listener, (void *)&a, al) || listen(listener, 1) || getsockname(listener, (void *)&a, &al)) fail("listen");
  double *took = calloc(count, sizeof *took); open_disk(file);
  if (fork() == 0) serve(listener);
  int fd = dial(ntohs(a.sin_port));
  for (int i = -WARM_UP / 10; i < count; i++) { double t0 = now_us(); send_all(fd, m, sizeof m); read_all(fd, b, 4); if (i >= 0) took[i] = now_us() - t0; }
  printf("%.1f %.1f\n", at(took, count, .5), at(took, count, .99));
}

int main(int ac, char **av) {
  if (ac >= 5 && !strcmp(av[1], "mqtt")) mqtt(atoi(av[2]), atoi(av[3]), atoi(av[4]), ac > 5 ? av[5] : NULL);
  else if (ac == 4 && !strcmp(av[1], "sync")) syncs(av[2], atoi(av[3]));
  else if (ac == 4 && !strcmp(av[1], "floor")) floor_of(av[2], atoi(av[3]));
  else { fprintf(stderr, "usage: latency mqtt PORT QOS COUNT [TOPIC] | latency sync|floor FILE COUNT\n"); return 2; }
  return 0;
}
