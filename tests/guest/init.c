// /init of the test guest: mounts, loads modules, does what the kernel command line asks for, then
// prints a tick a second and obeys the lines it reads from ttyS0.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static void Mount(const char* type, const char* target) {
  mkdir(target, 0755);
  if (mount(type, target, type, 0, NULL) != 0) {
    Fatal("cannot mount %s: %s", target, strerror(errno));
  }
}

// A kernel panic must end the machine (with -no-reboot) or start it anew, visibly; never hang it.
static void RebootOnPanic(void) {
  FILE* panic = fopen("/proc/sys/kernel/panic", "w");
  if (panic == NULL) Fatal("cannot set kernel.panic: %s", strerror(errno));
  fputs("-1\n", panic);
  fclose(panic);
}

static struct Options ReadOptions(void) {
  char cmdline[4096] = "";
  struct Options options = {0};
  FILE* file = fopen("/proc/cmdline", "r");
  if (file == NULL || fgets(cmdline, sizeof cmdline, file) == NULL) {
    Fatal("cannot read /proc/cmdline: %s", strerror(errno));
  }
  fclose(file);
  ParseOptions(cmdline, &options);
  return options;
}

static void PrintStatus(const char* word, uint64_t number) {
  const int64_t mono_ms = MonotonicNs() / 1000000;
  Say("%s %llu mono=%lld.%03lld dirty=%llu verified=%llu bad=%llu journal=%llu loops=%llu "
      "gap_ms=%lld readback=%llu badreads=%llu",
      word, (unsigned long long)number, (long long)mono_ms / 1000, (long long)mono_ms % 1000,
      (unsigned long long)PagesRewritten(), (unsigned long long)VerifiedPasses(),
      (unsigned long long)BadPages(), (unsigned long long)JournalRecords(),
      (unsigned long long)PulseLoops(), (long long)PulseGapMs(), (unsigned long long)ReadsBack(),
      (unsigned long long)BadReads());
}

static void PrintVerdict(void) {
  const struct Verdict verdict = VerifyMemory();
  if (verdict.stale + verdict.corrupt == 0) {
    Say("verify ok pages=%zu", verdict.pages);
  } else {
    Say("verify BAD pages=%zu stale=%zu corrupt=%zu", verdict.pages, verdict.stale,
        verdict.corrupt);
  }
}

static void Obey(const char* command) {
  static uint64_t status_count;
  if (strcmp(command, "status") == 0) {
    PrintStatus("status", ++status_count);
  } else if (strcmp(command, "verify") == 0) {
    PrintVerdict();
  } else if (strcmp(command, "poweroff") == 0) {
    Say("poweroff: powering off");
    PowerOff();
  } else if (*command != '\0') {
    Say("unknown command '%s': status, verify or poweroff", command);
  }
}

static void ReadCommands(void* unused) {
  (void)unused;
  char line[256];
  for (;;) {
    if (fgets(line, sizeof line, stdin) == NULL) {
      clearerr(stdin);  // a hang-up of the serial line
      SleepMs(100);
      continue;
    }
    line[strcspn(line, "\r\n")] = '\0';
    Obey(line);
  }
}

static void TickForEver(void) {
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (uint64_t tick = 1;; ++tick) {
    ++next.tv_sec;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    PrintStatus("tick", tick);
  }
}

int main(void) {
  Mount("devtmpfs", "/dev");
  OpenConsole();
  Mount("proc", "/proc");
  RebootOnPanic();
  LoadModules();
  const struct Options options = ReadOptions();
  WatchPowerButton();
  StartPulse();
  if (options.has_ip) StartNetwork(&options);
  if (options.beacon_port != 0) StartBeacon(&options);
  if (options.journal && options.readback) Fatal("guest.journal writes what guest.readback reads");
  if (options.journal) StartJournal();
  if (options.readback) StartReadback();
  FillMemory(&options);
  Say("READY fill=%llu", (unsigned long long)options.fill_mib);
  StartThread(ReadCommands, NULL);  // not before: "verify" is about filled memory
  TickForEver();
}
