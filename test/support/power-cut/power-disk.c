// power-disk: serves one file, `disk`, over FUSE and writes down what happens to it.
//   power-disk IMAGE LOG SEED FUSE-OPTIONS...
// IMAGE fills the memory that is the disk; it is never written. A loop device on `disk` makes it a block device whose
// write cache is volatile: every write that arrives is noted, every FSYNC (a flush of that device) takes 50 to 600 us,
// one of sixteen 10 ms more, in which other writes go on, as on a real device. From the log the disk can be built as it may have been at any
// moment: what a finished flush covers is there, the rest may be old, new or torn.
// SIGUSR1 cuts the power: every request fails from then on, and nothing more is noted.
// A record of the log: kind (W, F: a flush arrived, D: it is about to be answered), bytes, offset or the flush's
// number, arrival and answer in nanoseconds of CLOCK_MONOTONIC, then the data of a write. All little-endian.
#define FUSE_USE_VERSION 314
#define _GNU_SOURCE
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DISK_INODE 2
#define FLUSHES_MAX 1024

struct record {
  uint32_t kind, bytes;
  uint64_t offset, arrived, answered;
};
struct flush {
  fuse_req_t request;
  uint64_t number, arrived, due;
};

static uint8_t *disk;
static size_t disk_bytes;
static FILE *log_file;
static uint32_t seed;
static volatile sig_atomic_t is_cut;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static struct flush flushes[FLUSHES_MAX]; // a ring: first, count
static unsigned first, count;
static uint64_t flush_number;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

// Called with the lock held, so that the log is in the order of its times.
static void note(uint32_t kind, uint64_t offset, uint64_t arrived, const void *data, uint32_t bytes) {
  struct record r = {kind, bytes, offset, arrived, now()};
  if (fwrite(&r, sizeof r, 1, log_file) != 1 || (bytes && fwrite(data, bytes, 1, log_file) != 1)) {
    perror("log");
    _exit(3);
  }
  if (kind != 'W') fflush(log_file);
}

static void attributes(fuse_ino_t inode, struct stat *s) {
  memset(s, 0, sizeof *s);
  s->st_ino = inode;
  s->st_mode = inode == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600;
  s->st_nlink = 1;
  s->st_size = inode == FUSE_ROOT_ID ? 0 : disk_bytes;
  s->st_blksize = 4096;
  s->st_blocks = s->st_size / 512;
}

static void do_lookup(fuse_req_t request, fuse_ino_t parent, const char *name) {
  struct fuse_entry_param e = {0};
  if (parent != FUSE_ROOT_ID || strcmp(name, "disk") != 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  e.ino = DISK_INODE;
  e.attr_timeout = e.entry_timeout = 3600;
  attributes(DISK_INODE, &e.attr);
  fuse_reply_entry(request, &e);
}

static void do_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file) {
  struct stat s;
  (void)file;
  attributes(inode, &s);
  fuse_reply_attr(request, &s, 3600);
}

// The loop driver sets no size and no times that matter.
static void do_setattr(fuse_req_t request, fuse_ino_t inode, struct stat *wanted, int set, struct fuse_file_info *file) {
  (void)wanted, (void)set;
  do_getattr(request, inode, file);
}

static void do_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file) {
  if (inode != DISK_INODE) {
    fuse_reply_err(request, EISDIR);
    return;
  }
  file->direct_io = 1; // No page cache between the loop driver and us.
  file->keep_cache = 0;
  fuse_reply_open(request, file);
}

static void do_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t at, struct fuse_file_info *file) {
  (void)inode, (void)file;
  if (is_cut) {
    fuse_reply_err(request, EIO);
    return;
  }
  if ((size_t)at >= disk_bytes) size = 0;
  else if (size > disk_bytes - at) size = disk_bytes - at;
  fuse_reply_buf(request, (char *)disk + (size ? at : 0), size);
}

static void do_write(fuse_req_t request, fuse_ino_t inode, const char *data, size_t size, off_t at, struct fuse_file_info *file) {
  (void)inode, (void)file;
  uint64_t arrived = now();
  if (is_cut || (size_t)at > disk_bytes || size > disk_bytes - at) {
    fuse_reply_err(request, is_cut ? EIO : ENOSPC);
    return;
  }
  pthread_mutex_lock(&lock);
  memcpy(disk + at, data, size);
  note('W', at, arrived, data, size);
  pthread_mutex_unlock(&lock);
  fuse_reply_write(request, size);
}

static void do_fsync(fuse_req_t request, fuse_ino_t inode, int datasync, struct fuse_file_info *file) {
  (void)inode, (void)datasync, (void)file;
  uint64_t arrived = now();
  if (is_cut) {
    fuse_reply_err(request, EIO);
    return;
  }
  pthread_mutex_lock(&lock);
  if (count == FLUSHES_MAX) {
    pthread_mutex_unlock(&lock);
    fuse_reply_err(request, EIO);
    return;
  }
  seed = seed * 1664525 + 1013904223;
  uint64_t due = arrived + 50000 + (seed >> 8) % 550000;
  if (seed >> 28 == 0) due += 10000000;
  flushes[(first + count++) % FLUSHES_MAX] = (struct flush){request, ++flush_number, arrived, due};
  note('F', flush_number, arrived, NULL, 0);
  pthread_cond_signal(&came);
  pthread_mutex_unlock(&lock);
}

// Answers the flushes, in order, each when its time has come.
static void *finish_flushes(void *unused) {
  (void)unused;
  for (;;) {
    pthread_mutex_lock(&lock);
    while (count == 0) pthread_cond_wait(&came, &lock);
    struct flush one = flushes[first];
    pthread_mutex_unlock(&lock);
    uint64_t at = now();
    if (one.due > at) {
      struct timespec t = {0, one.due - at};
      nanosleep(&t, NULL);
    }
    pthread_mutex_lock(&lock);
    first = (first + 1) % FLUSHES_MAX;
    count--;
    int failed = is_cut;
    if (!failed) note('D', one.number, one.arrived, NULL, 0);
    pthread_mutex_unlock(&lock);
    fuse_reply_err(one.request, failed ? EIO : 0);
  }
  return NULL;
}

static void do_flush(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file) {
  (void)inode, (void)file;
  fuse_reply_err(request, 0);
}

static void do_init(void *data, struct fuse_conn_info *connection) {
  (void)data;
  connection->want &= ~FUSE_CAP_WRITEBACK_CACHE;
}

static void cut(int signal) {
  (void)signal;
  is_cut = 1;
}

static const struct fuse_lowlevel_ops operations = {
    .init = do_init, .lookup = do_lookup, .getattr = do_getattr, .setattr = do_setattr, .open = do_open,
    .read = do_read, .write = do_write, .fsync = do_fsync, .flush = do_flush, .release = do_flush,
};

static void load(const char *image) {
  FILE *file = fopen(image, "rb");
  if (!file) perror(image), exit(2);
  fseek(file, 0, SEEK_END);
  disk_bytes = ftell(file);
  rewind(file);
  disk = malloc(disk_bytes);
  if (!disk || fread(disk, disk_bytes, 1, file) != 1) perror(image), exit(2);
  fclose(file);
}

int main(int words, char **word) {
  if (words < 5) {
    fprintf(stderr, "usage: %s IMAGE LOG SEED FUSE-OPTIONS... MOUNTPOINT\n", word[0]);
    return 2;
  }
  load(word[1]);
  seed = strtoul(word[3], NULL, 10);
  log_file = fopen(word[2], "wb");
  if (!log_file) perror(word[2]), exit(2);
  setvbuf(log_file, NULL, _IOFBF, 1 << 20);
  word[3] = word[0];
  struct fuse_args args = FUSE_ARGS_INIT(words - 3, word + 3);
  struct fuse_cmdline_opts options;
  if (fuse_parse_cmdline(&args, &options) != 0) return 2;
  struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
  if (!session || fuse_set_signal_handlers(session) != 0) return 2;
  struct sigaction action = {.sa_handler = cut};
  sigaction(SIGUSR1, &action, NULL);
  if (fuse_session_mount(session, options.mountpoint) != 0) return 2;
  pthread_t thread;
  pthread_create(&thread, NULL, finish_flushes, NULL);
  printf("ready\n");
  fflush(stdout);
  int status = fuse_session_loop(session);
  fuse_session_unmount(session);
  fclose(log_file);
  return status < 0 ? 1 : 0;
}
