// The test guest: one static program that is /init of a small Linux. It fills memory with patterns
// it can check, keeps rewriting them, writes a journal to its disk, serves TCP connections and
// reports once a second on ttyS0, so that a test can tell what a migration did to it. README.md
// lists the options, the commands and the lines it prints.
//
// Every function may be called from any thread unless it says otherwise.
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { kCanaryBytes = 16 };

// Options is what the kernel command line asks for; a zero field means "not asked for".
struct Options {
  uint64_t fill_mib;
  uint64_t dirty_mb_per_second;
  bool has_canary;
  uint8_t canary[kCanaryBytes];
  bool journal;
  bool quiet;
  bool readback;
  bool has_ip;
  struct in_addr ip;
  struct in_addr netmask;
  uint16_t beacon_port;  // 0: no beacon
  struct in_addr beacon;
};

// ParseOptions reads the words that begin with "guest." out of `cmdline`, which it takes apart.
// A word it does not understand is fatal: a misspelt option must not pass for a passed test.
void ParseOptions(char* cmdline, struct Options* options);

// --- console.c: ttyS0, one whole line per call ---

// OpenConsole makes ttyS0 standard input, output and error, without echo. Call once, before Say.
void OpenConsole(void);
// Say prints one line.
void Say(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Fatal prints "FATAL: ..." and powers the machine off: the guest never hangs silently.
void Fatal(const char* format, ...) __attribute__((format(printf, 1, 2), noreturn));

// --- system.c: kernel modules, threads, time, power ---

// LoadModules loads every file of /modules in the order of the names.
void LoadModules(void);
// StartThread runs `body` in a thread of its own.
void StartThread(void (*body)(void*), void* argument);
// MonotonicNs is CLOCK_MONOTONIC in nanoseconds. It stands still while the machine is stopped.
int64_t MonotonicNs(void);
// SleepMs sleeps for at least `milliseconds`.
void SleepMs(int64_t milliseconds);
// PowerOff ends the machine in an orderly way.
void PowerOff(void) __attribute__((noreturn));
// WatchPowerButton starts a thread that powers off when the ACPI power button is pressed.
void WatchPowerButton(void);

// --- memory.c: pages that carry a pattern the guest can check at any time ---

// Verdict is the result of checking all pages: a stale page is whole, but an older (or newer)
// version than the one the guest wrote last; a corrupt page is not one the guest ever wrote.
struct Verdict {
  size_t pages;
  size_t stale;
  size_t corrupt;
};

// FillMemory allocates and writes the pages, then starts the threads that keep rewriting them at
// the rate asked for and, unless quiet, keep checking them. Call once.
void FillMemory(const struct Options* options);
// VerifyMemory checks every page now.
struct Verdict VerifyMemory(void);
// PagesRewritten, VerifiedPasses and BadPages are running totals since the start.
uint64_t PagesRewritten(void);
uint64_t VerifiedPasses(void);
uint64_t BadPages(void);

// --- journal.c: numbered records on /dev/vda ---

// StartJournal starts writing, after the last record that is already there. Without a /dev/vda it
// says so and does nothing. A failed write is fatal.
void StartJournal(void);
// JournalRecords is the number of the last record that reached the disk.
uint64_t JournalRecords(void);

// --- readback.c: reads of /dev/vda ---

// StartReadback starts the threads that read the disk and check its content. A read that fails is
// fatal.
void StartReadback(void);
// ReadsBack and BadReads count reads, and those that brought something else than the disk holds.
uint64_t ReadsBack(void);
uint64_t BadReads(void);

// --- network.c: eth0 and its TCP servers ---

// StartNetwork gives eth0 its address and starts the echo server (port 7) and the counter server
// (port 7777: a growing number on a line of its own every 50 ms).
void StartNetwork(const struct Options* options);

// --- beacon.c: a sign of life for whoever measures time outside ---

// StartBeacon sends a datagram every 2 ms to the address asked for. Call after StartNetwork.
void StartBeacon(const struct Options* options);

// --- pulse.c: what the guest itself notices ---

// StartPulse starts a thread that wakes once a millisecond and does a little work.
void StartPulse(void);
// PulseLoops counts the pieces of work done.
uint64_t PulseLoops(void);
// PulseGapMs is the longest time between two wake-ups in guest time. Time in which the machine is
// stopped does not show: the guest's clocks stop with it.
int64_t PulseGapMs(void);
