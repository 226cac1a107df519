/* Preloaded into a node: its time of day is off by as many milliseconds as the file $CLOCK_OFF_MS says. All other clocks
   are the system's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long off_ms(void) {
  char text[32] = {0};
  const char *path = getenv("CLOCK_OFF_MS");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return 0;
  ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  return size > 0 ? atoll(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int failed = (int)syscall(SYS_clock_gettime, clock, time);
  if (!failed && clock == CLOCK_REALTIME) {
    long long now = time->tv_sec * 1000LL + time->tv_nsec / 1000000 + off_ms();
    time->tv_sec = now / 1000;
    time->tv_nsec = now % 1000 * 1000000 + time->tv_nsec % 1000000;
  }
  return failed;
}
