#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace sealift::cli {

std::size_t TerminalWidth(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

Colour ColourFor(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool wanted = no_color == nullptr || *no_color == '\0';
  const bool able = term != nullptr && std::string_view(term) != "dumb";
  return wanted && able && isatty(fd) != 0 ? Colour::kOn : Colour::kOff;
}

RawMode::RawMode(int fd) : fd_(fd) {
  termios before{};
  if (tcgetattr(fd_, &before) != 0) return;
  termios raw = before;
  cfmakeraw(&raw);
  if (tcsetattr(fd_, TCSADRAIN, &raw) == 0) before_ = before;
}

RawMode::~RawMode() { Restore(); }

void RawMode::Restore() {
  const std::lock_guard lock(mutex_);
  if (before_) tcsetattr(fd_, TCSADRAIN, &*before_);
  before_.reset();
}

}  // namespace sealift::cli
