#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "guest.h"

// A page is 512 words of 64 bits:
//
//   0 magic | 1 page number | 2 generation | 3 checksum of 1 and 2 | 4.. body
//
// The body is an arithmetic sequence that starts at the checksum, so every word of a page depends
// on its number and its generation. In every 64th page the first eight words of the body hold the
// canary instead: 16 raw bytes (the command line has them only as hex digits) and a readable
// marker.
enum {
  kPageBytes = 4096,
  kPageWords = kPageBytes / 8,
  kBodyWord = 4,
  kCanaryStride = 64,
  kCanaryWords = 8,
  kVerifySliceMs = 20,
  kVerifySlicePages = 320,  // 64 MB a second: a tenth of a core at most, even emulated
  kDirtySliceMs = 5,
  kMaxCatchUpMs = 100,
  kMaxReports = 5,
  kReserveMib = 24,  // for page tables, stacks and the kernel
};
static const uint64_t kMagic = 0x4547415054464c53;  // "SLFTPAGE"
static const uint64_t kStep = 0x9e3779b97f4a7c15;

enum PageState { kPageGood, kPageStale, kPageCorrupt };

// The lock covers one page and its generation at a time.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t (*pages)[kPageWords];
static uint64_t* generations;
static size_t page_count;
static bool has_canary;
static uint64_t canary_words[kCanaryWords];
static uint64_t dirty_bytes_per_second;

static atomic_uint_fast64_t pages_rewritten;
static atomic_uint_fast64_t verified_passes;
static atomic_uint_fast64_t bad_pages;

uint64_t PagesRewritten(void) { return pages_rewritten; }
uint64_t VerifiedPasses(void) { return verified_passes; }
uint64_t BadPages(void) { return bad_pages; }

// The finaliser of SplitMix64: every bit of the result depends on every bit of the input.
static uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

static uint64_t Checksum(uint64_t page, uint64_t generation) {
  return Mix(Mix(page + kStep) + generation);
}

static bool HasCanary(size_t page) { return has_canary && page % kCanaryStride == 0; }

static size_t SequenceStart(size_t page) {
  return HasCanary(page) ? kBodyWord + kCanaryWords : kBodyWord;
}

static void WritePage(size_t page, uint64_t generation) {
  uint64_t* words = pages[page];
  const uint64_t checksum = Checksum(page, generation);
  words[0] = kMagic;
  words[1] = page;
  words[2] = generation;
  words[3] = checksum;
  if (HasCanary(page)) memcpy(words + kBodyWord, canary_words, sizeof canary_words);
  for (size_t i = SequenceStart(page); i < kPageWords; ++i) words[i] = checksum + i * kStep;
  generations[page] = generation;
}

static bool BodyMatches(size_t page, const uint64_t* words) {
  if (HasCanary(page) && memcmp(words + kBodyWord, canary_words, sizeof canary_words) != 0) {
    return false;
  }
  uint64_t difference = 0;
  for (size_t i = SequenceStart(page); i < kPageWords; ++i) {
    difference |= words[i] ^ (words[3] + i * kStep);
  }
  return difference == 0;
}

static enum PageState StateOf(size_t page) {
  const uint64_t* words = pages[page];
  if (words[0] != kMagic || words[1] != page || words[3] != Checksum(page, words[2]) ||
      !BodyMatches(page, words)) {
    return kPageCorrupt;
  }
  return words[2] == generations[page] ? kPageGood : kPageStale;
}

static void ReportBadPage(size_t page, enum PageState state, uint64_t found, uint64_t expected) {
  if (atomic_fetch_add(&bad_pages, 1) >= kMaxReports) return;
  Say("bad page=%zu %s generation=%llu expected=%llu", page,
      state == kPageStale ? "stale" : "corrupt", (unsigned long long)found,
      (unsigned long long)expected);
}

static enum PageState CheckPage(size_t page) {
  pthread_mutex_lock(&lock);
  const enum PageState state = StateOf(page);
  const uint64_t found = pages[page][2];
  const uint64_t expected = generations[page];
  pthread_mutex_unlock(&lock);
  if (state != kPageGood) ReportBadPage(page, state, found, expected);
  return state;
}

struct Verdict VerifyMemory(void) {
  struct Verdict verdict = {.pages = page_count};
  for (size_t page = 0; page < page_count; ++page) {
    const enum PageState state = CheckPage(page);
    verdict.stale += state == kPageStale;
    verdict.corrupt += state == kPageCorrupt;
  }
  return verdict;
}

static void KeepVerifying(void* unused) {
  (void)unused;
  for (;;) {
    for (size_t page = 0; page < page_count; ++page) {
      if (page % kVerifySlicePages == 0) SleepMs(kVerifySliceMs);
      CheckPage(page);
    }
    atomic_fetch_add(&verified_passes, 1);
  }
}

static void RewritePage(size_t page) {
  pthread_mutex_lock(&lock);
  WritePage(page, generations[page] + 1);
  pthread_mutex_unlock(&lock);
  atomic_fetch_add(&pages_rewritten, 1);
}

// Pages are rewritten in pseudo-random order. What a stall leaves undone is caught up on only in
// part: a burst would be a rate nobody asked for.
static void KeepRewriting(void* unused) {
  (void)unused;
  const double bytes_per_ns = (double)dirty_bytes_per_second / 1e9;
  const double most = (double)dirty_bytes_per_second * kMaxCatchUpMs / 1000;
  double owed = 0;
  int64_t last = MonotonicNs();
  for (uint64_t turn = 0;;) {
    SleepMs(kDirtySliceMs);
    const int64_t now = MonotonicNs();
    owed += (double)(now - last) * bytes_per_ns;
    if (owed > most) owed = most;
    last = now;
    for (; owed >= kPageBytes; owed -= kPageBytes) RewritePage(Mix(++turn) % page_count);
  }
}

static void SetCanary(const struct Options* options) {
  has_canary = options->has_canary;
  if (!has_canary) return;
  char* text = (char*)canary_words;
  memcpy(text, options->canary, kCanaryBytes);
  text += kCanaryBytes;
  text += sprintf(text, "SEALIFT-CANARY-");
  for (size_t i = 0; i < kCanaryBytes; ++i) text += sprintf(text, "%02x", options->canary[i]);
}

static void AllocatePages(uint64_t mib) {
  struct sysinfo memory;
  sysinfo(&memory);
  const uint64_t free_mib = (uint64_t)memory.freeram * memory.mem_unit >> 20;
  if (mib + kReserveMib > free_mib) {
    Fatal("guest.fill=%llu leaves too little of the %llu MiB that are free: it takes %d MiB more",
          (unsigned long long)mib, (unsigned long long)free_mib, kReserveMib);
  }
  page_count = (size_t)(mib << 20) / kPageBytes;
  pages = mmap(NULL, page_count * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
               -1, 0);
  generations = calloc(page_count, sizeof *generations);
  if (pages == MAP_FAILED || generations == NULL) Fatal("cannot allocate the pages to fill");
}

void FillMemory(const struct Options* options) {
  if (options->fill_mib == 0) return;
  SetCanary(options);
  AllocatePages(options->fill_mib);
  for (size_t page = 0; page < page_count; ++page) WritePage(page, 1);
  if (!options->quiet) StartThread(KeepVerifying, NULL);
  dirty_bytes_per_second = options->dirty_mb_per_second * 1000000;
  if (dirty_bytes_per_second > 0) StartThread(KeepRewriting, NULL);
}
