#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "guest.h"

static void DisableEcho(int terminal) {
  struct termios settings;
  if (tcgetattr(terminal, &settings) != 0) return;
  settings.c_lflag &= ~(tcflag_t)ECHO;
  tcsetattr(terminal, TCSANOW, &settings);
}

void OpenConsole(void) {
  int console = open("/dev/ttyS0", O_RDWR);
  if (console < 0) console = open("/dev/console", O_RDWR);
  if (console < 0) return;
  for (int fd = 0; fd <= 2; ++fd) dup2(console, fd);
  if (console > 2) close(console);
  DisableEcho(0);
}

// One write(2) a line: the tty layer keeps lines of several threads apart.
static void PrintLine(const char* prefix, const char* format, va_list arguments) {
  char line[512];
  int length = snprintf(line, sizeof line, "%s", prefix);
  length += vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
  if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
  line[length++] = '\n';
  if (write(1, line, (size_t)length) < 0) return;  // nobody is left to tell
}

void Say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  PrintLine("", format, arguments);
  va_end(arguments);
}

void Fatal(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  PrintLine("FATAL: ", format, arguments);
  va_end(arguments);
  PowerOff();
}
