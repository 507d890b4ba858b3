/* Counts what a process asks of the system and of the allocator, loaded in front of the C library
   (LD_PRELOAD). COUNTS names the file of the numbers, 8 bytes each in the machine's order; processes
   that share it add to it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* In the order in which they are in the file. */
enum { READS, WRITES, SYNCS, ALLOCATIONS, ALLOCATED_BYTES, KINDS };

/* What is counted before the file is there is lost. */
static _Atomic uint64_t lost[KINDS];
static _Atomic uint64_t *counts = lost;

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("COUNTS");
  int fd = name ? open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
  if (fd < 0 || ftruncate(fd, sizeof lost) != 0) abort();
  void *map = mmap(0, sizeof lost, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) abort();
  close(fd);
  counts = map;
}

static void add(int kind, uint64_t number) {
  atomic_fetch_add_explicit(&counts[kind], number, memory_order_relaxed);
}

#define COUNTED(type, name, kind, args, ...) \
  type name(__VA_ARGS__) { \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name); \
    add(kind, 1); \
    return real args; \
  }

COUNTED(ssize_t, read, READS, (fd, to, n), int fd, void *to, size_t n)
COUNTED(ssize_t, pread64, READS, (fd, to, n, at), int fd, void *to, size_t n, off64_t at)
COUNTED(ssize_t, readv, READS, (fd, v, n), int fd, const struct iovec *v, int n)
COUNTED(ssize_t, recv, READS, (fd, to, n, how), int fd, void *to, size_t n, int how)

COUNTED(ssize_t, write, WRITES, (fd, from, n), int fd, const void *from, size_t n)
COUNTED(ssize_t, pwrite64, WRITES, (fd, from, n, at), int fd, const void *from, size_t n, off64_t at)
COUNTED(ssize_t, writev, WRITES, (fd, v, n), int fd, const struct iovec *v, int n)
COUNTED(ssize_t, send, WRITES, (fd, from, n, how), int fd, const void *from, size_t n, int how)

COUNTED(int, fsync, SYNCS, (fd), int fd)
COUNTED(int, fdatasync, SYNCS, (fd), int fd)

/* The C library's own, under the names that it has for those who stand in front of it. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t many, size_t n);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t align, size_t n);

static void allocated(size_t n) {
  add(ALLOCATIONS, 1);
  add(ALLOCATED_BYTES, n);
}

void *malloc(size_t n) {
  allocated(n);
  return __libc_malloc(n);
}

void *calloc(size_t many, size_t n) {
  allocated(many * n);
  return __libc_calloc(many, n);
}

void *realloc(void *old, size_t n) {
  allocated(n);
  return __libc_realloc(old, n);
}

void *aligned_alloc(size_t align, size_t n) {
  allocated(n);
  return __libc_memalign(align, n);
}

int posix_memalign(void **to, size_t align, size_t n) {
  allocated(n);
  *to = __libc_memalign(align, n);
  return *to ? 0 : ENOMEM;
}
