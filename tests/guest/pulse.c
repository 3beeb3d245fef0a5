#include <stdatomic.h>

#include "guest.h"

enum { kWorkPerLoop = 2000 };

static atomic_uint_fast64_t loops;
static atomic_int_fast64_t longest_gap_ns;

uint64_t PulseLoops(void) { return loops; }

int64_t PulseGapMs(void) { return longest_gap_ns / 1000000; }

static uint64_t Work(uint64_t value) {
  for (int i = 0; i < kWorkPerLoop; ++i)
    value = value * 6364136223846793005u + 1442695040888963407u;
  return value;
}

static void KeepPulse(void* unused) {
  (void)unused;
  volatile uint64_t value = 1;
  int64_t last = MonotonicNs();
  for (;;) {
    SleepMs(1);
    const int64_t now = MonotonicNs();
    if (now - last > longest_gap_ns) longest_gap_ns = now - last;
    last = now;
    value = Work(value);
    atomic_fetch_add(&loops, 1);
  }
}

void StartPulse(void) { StartThread(KeepPulse, NULL); }
