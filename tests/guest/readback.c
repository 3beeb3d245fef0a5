// Reads /dev/vda past the guest's page cache, from several threads all the time, and checks what
// arrives: the disk controller writes into guest memory without the CPU of the guest.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "guest.h"

// Every read goes into the next of many buffers, so that a page which was once filled keeps its
// content for a while.
enum { kThreads = 4, kBuffers = 32, kReadBytes = 512 * 1024, kWordsPerRead = kReadBytes / 8 };

static const char kDisk[] = "/dev/vda";

static atomic_uint_fast64_t reads;
static atomic_uint_fast64_t bad_reads;

uint64_t ReadsBack(void) { return reads; }

uint64_t BadReads(void) { return bad_reads; }

// What word `index` of the disk must be; README.md tells others.
static uint64_t WordAt(uint64_t index) { return (index + 1) * 0x9e3779b97f4a7c15u; }

static uint64_t DiskBytes(int disk) {
  uint64_t bytes = 0;
  if (ioctl(disk, BLKGETSIZE64, &bytes) != 0 || bytes < kReadBytes) {
    Fatal("readback: %s must have at least %d bytes", kDisk, kReadBytes);
  }
  return bytes;
}

static bool IsRight(const uint64_t* words, uint64_t first) {
  for (uint64_t i = 0; i < kWordsPerRead; ++i) {
    if (words[i] != WordAt(first + i)) return false;
  }
  return true;
}

static void KeepReading(void* seed) {
  const int disk = open(kDisk, O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (disk < 0) Fatal("readback: cannot open %s: %s", kDisk, strerror(errno));
  const uint64_t chunks = DiskBytes(disk) / kReadBytes;
  char* buffers = aligned_alloc(4096, (size_t)kBuffers * kReadBytes);
  if (buffers == NULL) Fatal("readback: no memory for buffers");
  uint64_t random = (uint64_t)(uintptr_t)seed + 1;
  for (uint64_t n = 0;; ++n) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const uint64_t chunk = (random >> 32) % chunks;
    uint64_t* words = (uint64_t*)(void*)(buffers + (n % kBuffers) * kReadBytes);
    const ssize_t got = pread(disk, words, kReadBytes, (off_t)(chunk * kReadBytes));
    if (got != kReadBytes) Fatal("readback: read of %s failed: %s", kDisk, strerror(errno));
    if (!IsRight(words, chunk * kWordsPerRead)) ++bad_reads;
    ++reads;
  }
}

void StartReadback(void) {
  for (intptr_t i = 0; i < kThreads; ++i) StartThread(KeepReading, (void*)i);
}
