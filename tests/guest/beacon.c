#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

enum { kBeaconNs = 2000000 };

// One datagram, all little-endian. tests/e2e/beacon.py reads them.
struct Beacon {
  uint64_t sequence;  // 1, 2, 3, ...
  uint64_t loops;     // PulseLoops()
  uint64_t monotonic_ns;
};

static int Connect(const struct Options* options) {
  const struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(options->beacon_port), .sin_addr = options->beacon};
  const int beacon = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (beacon < 0 || connect(beacon, (const struct sockaddr*)&address, sizeof address) != 0) {
    Fatal("cannot send beacons: %s", strerror(errno));
  }
  return beacon;
}

// A beacon that cannot be sent (nobody listens, say) is lost like any datagram.
static void KeepSending(void* argument) {
  const int beacon = (int)(intptr_t)argument;
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (uint64_t sequence = 1;; ++sequence) {
    const struct Beacon datagram = {htole64(sequence), htole64(PulseLoops()),
                                    htole64((uint64_t)MonotonicNs())};
    send(beacon, &datagram, sizeof datagram, MSG_DONTWAIT);
    next.tv_nsec += kBeaconNs;
    if (next.tv_nsec >= 1000000000) {
      next.tv_nsec -= 1000000000;
      ++next.tv_sec;
    }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
  }
}

void StartBeacon(const struct Options* options) {
  StartThread(KeepSending, (void*)(intptr_t)Connect(options));
}
