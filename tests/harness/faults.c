/* Faults for one process, loaded in front of the C library (LD_PRELOAD).

   FAULT_CALLS  the calls that count, such as "fsync,write"; "sync" is fsync and fdatasync
   FAULT_PATH   only on files whose path has this in it; absent: on all
   FAULT_WHEN   only while this file exists
   FAULT_AT     the number of the call that fails, from 1; 0: all of them
   FAULT_DO     "exit": the process ends there, before the call; else the name of an error,
                EIO or ENOSPC; "lie": the call does nothing and says that it did */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

/* 0: do the call; 1: it does nothing and succeeds; -1: it fails, errno is set. */
static int fault(const char *call, const char *path, int fd) {
  const char *which = getenv("FAULT_CALLS"), *in = getenv("FAULT_PATH");
  const char *when = getenv("FAULT_WHEN"), *at = getenv("FAULT_AT"), *what = getenv("FAULT_DO");
  char name[4096], link[64];
  int saved = errno;
  if (!which || !when || !at || !what || !strstr(which, call)) return 0;
  if (in) {
    if (!path) {
      snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
      ssize_t length = readlink(link, name, sizeof name - 1);
      if (length < 0) { errno = saved; return 0; }
      name[length] = 0;
      path = name;
    }
    if (!strstr(path, in)) { errno = saved; return 0; }
  }
  if (access(when, F_OK) != 0) { errno = saved; return 0; }
  errno = saved;
  long number = atomic_fetch_add(&calls, 1) + 1, wanted = atol(at);
  if (wanted != 0 && number != wanted) return 0;
  if (!strcmp(what, "exit")) _exit(99);
  if (!strcmp(what, "lie")) return 1;
  errno = !strcmp(what, "ENOSPC") ? ENOSPC : EIO;
  return -1;
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define FD(type, name, call, success, args, ...) \
  type name(__VA_ARGS__) { \
    REAL(type, #name, __VA_ARGS__); \
    int f = fault(call, 0, fd); \
    return f < 0 ? -1 : f > 0 ? (type)(success) : real args; \
  }

FD(int, fsync, "sync", 0, (fd), int fd)
FD(int, fdatasync, "sync", 0, (fd), int fd)
FD(int, ftruncate64, "truncate", 0, (fd, length), int fd, off64_t length)
FD(ssize_t, write, "write", n, (fd, from, n), int fd, const void *from, size_t n)
FD(ssize_t, pwrite64, "write", n, (fd, from, n, at), int fd, const void *from, size_t n, off64_t at)
FD(ssize_t, writev, "write", 0, (fd, v, n), int fd, const struct iovec *v, int n)
FD(ssize_t, read, "read", n, (fd, to, n), int fd, void *to, size_t n)
FD(ssize_t, pread64, "read", n, (fd, to, n, at), int fd, void *to, size_t n, off64_t at)

int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  int f = fault("rename", to, -1);
  return f < 0 ? -1 : f > 0 ? 0 : real(from, to);
}

int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  int f = fault("unlink", path, -1);
  return f < 0 ? -1 : f > 0 ? 0 : real(path);
}

int open64(const char *path, int flags, ...) {
  REAL(int, "open64", const char *, int, ...);
  va_list more;
  va_start(more, flags);
  mode_t mode = va_arg(more, mode_t);
  va_end(more);
  if (flags & O_CREAT && fault("create", path, -1) < 0) return -1;
  return real(path, flags, mode);
}
