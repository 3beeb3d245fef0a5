#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "guest.h"

enum { kPayloadWords = 58, kStepMs = 30 };

// One record is one sector, so that it is written whole or not at all. check_journal.py reads them.
// Two guests that write to one disk break the chain of hashes: their clocks differ.
struct Record {
  uint8_t magic[8];
  uint64_t sequence;  // 1, 2, 3, ...
  uint64_t monotonic_ns;
  uint64_t boot;                    // random, one per boot
  uint64_t previous_hash;           // 0 in the first record
  uint64_t payload[kPayloadWords];  // sequence + index
  uint64_t hash;                    // FNV-1a over everything before it
};
_Static_assert(sizeof(struct Record) == 512, "a record is one sector");

static const uint8_t kMagic[8] = {'S', 'L', 'J', 'R', 'N', 'L', '0', '1'};
static const char kDisk[] = "/dev/vda";

static atomic_uint_fast64_t records_written;

uint64_t JournalRecords(void) { return records_written; }

static uint64_t HashOf(const struct Record* record) {
  const uint8_t* bytes = (const uint8_t*)record;
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < offsetof(struct Record, hash); ++i) {
    hash = (hash ^ bytes[i]) * 0x100000001b3;
  }
  return hash;
}

static bool Follows(const struct Record* record, const struct Record* last) {
  return memcmp(record->magic, kMagic, sizeof kMagic) == 0 &&
         record->sequence == last->sequence + 1 && record->hash == HashOf(record);
}

// LastRecord finds the end of a journal that an earlier boot left. All zero: there is none.
static struct Record LastRecord(void) {
  struct Record last = {0};
  struct Record record;
  FILE* disk = fopen(kDisk, "r");
  if (disk == NULL) Fatal("journal: cannot open %s: %s", kDisk, strerror(errno));
  while (fread(&record, sizeof record, 1, disk) == 1 && Follows(&record, &last)) last = record;
  fclose(disk);
  return last;
}

static uint64_t NewBootNumber(void) {
  uint64_t number = 0;
  getrandom(&number, sizeof number, GRND_INSECURE);  // does not wait for entropy
  return number;
}

static void FillRecord(struct Record* record, const struct Record* previous, uint64_t boot) {
  memcpy(record->magic, kMagic, sizeof kMagic);
  record->sequence = previous->sequence + 1;
  record->monotonic_ns = (uint64_t)MonotonicNs();
  record->boot = boot;
  record->previous_hash = previous->hash;
  for (size_t i = 0; i < kPayloadWords; ++i) record->payload[i] = record->sequence + i;
  record->hash = HashOf(record);
}

static void WriteRecord(int disk, const struct Record* record) {
  const off_t offset = (off_t)((record->sequence - 1) * sizeof *record);
  const ssize_t written = pwrite(disk, record, sizeof *record, offset);
  if (written != (ssize_t)sizeof *record) {
    Fatal("journal: write of record %llu failed: %s", (unsigned long long)record->sequence,
          written < 0 ? strerror(errno) : "the disk is full");
  }
  records_written = record->sequence;
}

static void KeepWriting(void* unused) {
  (void)unused;
  const int disk = open(kDisk, O_WRONLY | O_DIRECT | O_DSYNC | O_CLOEXEC);
  if (disk < 0) Fatal("journal: cannot open %s for writing: %s", kDisk, strerror(errno));
  const uint64_t boot = NewBootNumber();
  struct Record last = LastRecord();
  static _Alignas(4096) struct Record record;
  for (;; SleepMs(kStepMs)) {
    FillRecord(&record, &last, boot);
    WriteRecord(disk, &record);
    last = record;
  }
}

void StartJournal(void) {
  if (access(kDisk, F_OK) != 0) {
    Say("journal: off, there is no %s", kDisk);
    return;
  }
  StartThread(KeepWriting, NULL);
}
