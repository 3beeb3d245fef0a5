#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static void LoadModule(const char* name) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "/modules/%s", name);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) Fatal("cannot open %s: %s", path, strerror(errno));
  if (syscall(SYS_finit_module, file, "", 0) != 0) {
    Fatal("cannot load %s: %s", path, strerror(errno));
  }
  close(file);
}

static int IsModule(const struct dirent* entry) { return strstr(entry->d_name, ".ko") != NULL; }

void LoadModules(void) {
  struct dirent** modules = NULL;
  int count = scandir("/modules", &modules, IsModule, alphasort);
  if (count < 0) Fatal("cannot list /modules: %s", strerror(errno));
  for (int i = 0; i < count; ++i) {
    LoadModule(modules[i]->d_name);
    free(modules[i]);
  }
  free(modules);
}

struct ThreadStart {
  void (*body)(void*);
  void* argument;
};

static void* RunThread(void* argument) {
  const struct ThreadStart start = *(struct ThreadStart*)argument;
  free(argument);
  start.body(start.argument);
  return NULL;
}

void StartThread(void (*body)(void*), void* argument) {
  pthread_t thread;
  struct ThreadStart* start = malloc(sizeof *start);
  if (start == NULL) Fatal("no memory for a thread");
  *start = (struct ThreadStart){body, argument};
  int error = pthread_create(&thread, NULL, RunThread, start);
  if (error != 0) Fatal("cannot start a thread: %s", strerror(error));
  pthread_detach(thread);
}

int64_t MonotonicNs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void SleepMs(int64_t milliseconds) {
  const struct timespec duration = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, NULL);
}

void PowerOff(void) {
  sync();
  reboot(RB_POWER_OFF);
  for (;;) pause();  // only if the machine cannot be switched off; a thread of init must not return
}

enum { kMaxInputs = 32 };

struct Inputs {
  struct pollfd polled[kMaxInputs];
  nfds_t count;
};

static void OpenInputs(struct Inputs* inputs) {
  for (int i = 0; i < kMaxInputs; ++i) {
    char path[32];
    snprintf(path, sizeof path, "/dev/input/event%d", i);
    const int input = open(path, O_RDONLY | O_CLOEXEC);
    if (input < 0) continue;
    inputs->polled[inputs->count++] = (struct pollfd){.fd = input, .events = POLLIN};
  }
}

static bool PowerKeyPressed(int input) {
  struct input_event event;
  if (read(input, &event, sizeof event) != (ssize_t)sizeof event) return false;
  return event.type == EV_KEY && event.code == KEY_POWER && event.value == 1;
}

static void WatchInputs(void* argument) {
  struct Inputs* inputs = argument;
  while (poll(inputs->polled, inputs->count, -1) > 0) {
    for (nfds_t i = 0; i < inputs->count; ++i) {
      const struct pollfd* input = &inputs->polled[i];
      if (!(input->revents & POLLIN) || !PowerKeyPressed(input->fd)) continue;
      Say("acpi power button: powering off");
      PowerOff();
    }
  }
  Fatal("cannot watch the power button: %s", strerror(errno));
}

// The inputs are open before this returns: the kernel drops a press that nobody listens for.
void WatchPowerButton(void) {
  static struct Inputs inputs;
  OpenInputs(&inputs);
  StartThread(WatchInputs, &inputs);
}
