#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

static uint64_t ParseNumber(const char* name, const char* text) {
  char* end = NULL;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0') Fatal("%s=%s is not a number", name, text);
  return number;
}

static void ParseCanary(const char* text, struct Options* options) {
  if (strlen(text) != 2 * kCanaryBytes || strspn(text, "0123456789abcdefABCDEF") != strlen(text)) {
    Fatal("guest.canary=%s is not %d hex digits", text, 2 * kCanaryBytes);
  }
  for (size_t i = 0; i < kCanaryBytes; ++i) {
    const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
    options->canary[i] = (uint8_t)strtoul(digits, NULL, 16);
  }
  options->has_canary = true;
}

static void ParseAddress(char* text, struct Options* options) {
  const char* prefix_text = "";
  char* slash = strchr(text, '/');
  if (slash != NULL) {
    *slash = '\0';
    prefix_text = slash + 1;
  }
  uint64_t prefix = ParseNumber("the prefix length of guest.ip", prefix_text);
  if (inet_pton(AF_INET, text, &options->ip) != 1 || prefix < 1 || prefix > 32) {
    Fatal("guest.ip=%s/%s is not an IPv4 address with prefix length", text, prefix_text);
  }
  options->netmask.s_addr = htonl(UINT32_MAX << (32 - prefix));
  options->has_ip = true;
}

static void ParseBeacon(char* text, struct Options* options) {
  const char* port_text = "";
  char* colon = strchr(text, ':');
  if (colon != NULL) {
    *colon = '\0';
    port_text = colon + 1;
  }
  const uint64_t port = ParseNumber("the port of guest.beacon", port_text);
  if (inet_pton(AF_INET, text, &options->beacon) != 1 || port < 1 || port > UINT16_MAX) {
    Fatal("guest.beacon=%s:%s is not an IPv4 address with a port", text, port_text);
  }
  options->beacon_port = (uint16_t)port;
}

static void ParseOption(const char* name, char* value, struct Options* options) {
  if (strcmp(name, "guest.fill") == 0) {
    options->fill_mib = ParseNumber(name, value);
  } else if (strcmp(name, "guest.dirty") == 0) {
    options->dirty_mb_per_second = ParseNumber(name, value);
  } else if (strcmp(name, "guest.canary") == 0) {
    ParseCanary(value, options);
  } else if (strcmp(name, "guest.journal") == 0) {
    options->journal = ParseNumber(name, value) != 0;
  } else if (strcmp(name, "guest.quiet") == 0) {
    options->quiet = ParseNumber(name, value) != 0;
  } else if (strcmp(name, "guest.readback") == 0) {
    options->readback = ParseNumber(name, value) != 0;
  } else if (strcmp(name, "guest.ip") == 0) {
    ParseAddress(value, options);
  } else if (strcmp(name, "guest.beacon") == 0) {
    ParseBeacon(value, options);
  } else {
    Fatal("unknown option %s on the kernel command line", name);
  }
}

void ParseOptions(char* cmdline, struct Options* options) {
  char* rest = NULL;
  for (char* word = strtok_r(cmdline, " \n", &rest); word != NULL;
       word = strtok_r(NULL, " \n", &rest)) {
    if (strncmp(word, "guest.", 6) != 0) continue;
    char* equals = strchr(word, '=');
    if (equals == NULL) Fatal("%s on the kernel command line has no value", word);
    *equals = '\0';
    ParseOption(word, equals + 1, options);
  }
}
