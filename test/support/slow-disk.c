// A disk that takes its time, for a program that is started with it: gcc -O2 -shared -fPIC -o slow-disk.so slow-disk.c -ldl;
// LD_PRELOAD=slow-disk.so SLOW_DISK=control program. The control file holds 32-bit numbers, which may change at any time:
//   0 how long a sync takes, milliseconds   1 how long a write takes   2 syncs (1), or writes too (2), stand still
// and tells: 3 syncs begun   4 syncs and writes that wait now
// Only files below the folder in SLOW_DISK_FOLDER are slow.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SYNC_MS, WRITE_MS, HELD, SYNCS, WAITING, CONTROL_BYTES = 32 };

static volatile uint32_t *control;
static const char *folder;
static int (*realFsync)(int), (*realFdatasync)(int);
static ssize_t (*realPwrite)(int, const void *, size_t, off64_t), (*realPwritev)(int, const struct iovec *, int, off64_t);

__attribute__((constructor)) static void begin(void) {
  realFsync = dlsym(RTLD_NEXT, "fsync");
  realFdatasync = dlsym(RTLD_NEXT, "fdatasync");
  realPwrite = dlsym(RTLD_NEXT, "pwrite64");
  realPwritev = dlsym(RTLD_NEXT, "pwritev64");
  const char *path = getenv("SLOW_DISK");
  folder = getenv("SLOW_DISK_FOLDER");
  int fd = path && folder ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *map = mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (map != MAP_FAILED) control = map;
}

static int isSlow(int fd) {
  char name[64], target[PATH_MAX];
  if (!control) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, target, sizeof target - 1);
  return length >= (ssize_t)strlen(folder) && !memcmp(target, folder, strlen(folder));
}

static void stand(uint32_t ms, uint32_t heldFrom) {
  struct timespec left = {ms / 1000, ms % 1000 * 1000000l}, step = {0, 2000000};
  __sync_fetch_and_add(&control[WAITING], 1);
  if (ms) nanosleep(&left, NULL);
  while (control[HELD] >= heldFrom) nanosleep(&step, NULL);
  __sync_fetch_and_sub(&control[WAITING], 1);
}

// The disk takes its time first: what was acknowledged before the call came back was not on it.
static void beforeSync(int fd) {
  if (!isSlow(fd)) return;
  __sync_fetch_and_add(&control[SYNCS], 1);
  if (control[SYNC_MS] || control[HELD]) stand(control[SYNC_MS], 1);
}
static void beforeWrite(int fd) {
  if (control && fcntl(fd, F_GETFL) & O_DSYNC) beforeSync(fd);
  if (control && (control[WRITE_MS] || control[HELD] > 1) && isSlow(fd)) stand(control[WRITE_MS], 2);
}

int fsync(int fd) { beforeSync(fd); return realFsync(fd); }
int fdatasync(int fd) { beforeSync(fd); return realFdatasync(fd); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { beforeWrite(fd); return realPwrite(fd, b, n, at); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { return pwrite64(fd, b, n, at); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at) { beforeWrite(fd); return realPwritev(fd, v, n, at); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) { return pwritev64(fd, v, n, at); }
