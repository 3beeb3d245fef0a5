#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"

enum { kEchoPort = 7, kCounterPort = 7777, kCounterMs = 50 };

// Service is a listening TCP socket and what is done with each connection to it.
struct Service {
  int listener;
  void (*serve)(void* connection);
};

static void Configure(int control, unsigned long request, struct ifreq* interface) {
  if (ioctl(control, request, interface) != 0) {
    Fatal("cannot set up eth0 (does the guest have a network card?): %s", strerror(errno));
  }
}

static void SetAddress(int control, unsigned long request, struct in_addr address) {
  struct ifreq interface = {.ifr_name = "eth0"};
  const struct sockaddr_in value = {.sin_family = AF_INET, .sin_addr = address};
  memcpy(&interface.ifr_addr, &value, sizeof value);
  Configure(control, request, &interface);
}

static void BringUp(int control) {
  struct ifreq interface = {.ifr_name = "eth0"};
  Configure(control, SIOCGIFFLAGS, &interface);
  interface.ifr_flags |= IFF_UP;
  Configure(control, SIOCSIFFLAGS, &interface);
}

static int Listen(uint16_t port) {
  const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (const struct sockaddr*)&address, sizeof address) != 0 ||
      listen(listener, 16) != 0) {
    Fatal("cannot listen on port %u: %s", port, strerror(errno));
  }
  return listener;
}

static bool SendAll(int connection, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(connection, data, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data += sent;
    size -= (size_t)sent;
  }
  return true;
}

static void ServeEcho(void* argument) {
  const int connection = (int)(intptr_t)argument;
  char data[4096];
  ssize_t size;
  while ((size = read(connection, data, sizeof data)) > 0) {
    if (!SendAll(connection, data, (size_t)size)) break;
  }
  close(connection);
}

static void ServeCounter(void* argument) {
  const int connection = (int)(intptr_t)argument;
  char line[32];
  for (uint64_t number = 1;; ++number) {
    const int size = snprintf(line, sizeof line, "%llu\n", (unsigned long long)number);
    if (!SendAll(connection, line, (size_t)size)) break;
    SleepMs(kCounterMs);
  }
  close(connection);
}

static void AcceptConnections(void* argument) {
  const struct Service* service = argument;
  for (;;) {
    const int connection = accept4(service->listener, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0) Fatal("cannot accept a connection: %s", strerror(errno));
    StartThread(service->serve, (void*)(intptr_t)connection);
  }
}

// StartService listens before it returns: whoever sees READY can connect.
static void StartService(uint16_t port, void (*serve)(void* connection)) {
  struct Service* service = malloc(sizeof *service);
  if (service == NULL) Fatal("no memory for a TCP server");
  *service = (struct Service){Listen(port), serve};
  StartThread(AcceptConnections, service);
}

void StartNetwork(const struct Options* options) {
  const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  SetAddress(control, SIOCSIFADDR, options->ip);
  SetAddress(control, SIOCSIFNETMASK, options->netmask);
  BringUp(control);
  close(control);
  StartService(kEchoPort, ServeEcho);
  StartService(kCounterPort, ServeCounter);
}
