// The terminal a person sits at.
#pragma once

#include <termios.h>

#include <cstddef>
#include <mutex>
#include <optional>

#include "cli/table.h"

namespace sealift::cli {

// TerminalWidth in columns; 80 when the descriptor is not a terminal or does not know.
[[nodiscard]] std::size_t TerminalWidth(int fd);

// ColourFor is on for a terminal that is not dumb, unless NO_COLOR is set (https://no-color.org).
[[nodiscard]] Colour ColourFor(int fd);

// RawMode passes every key on as it is, without echo, until it is restored or destroyed. Does
// nothing when the descriptor is not a terminal. Thread-safe.
class RawMode {
 public:
  explicit RawMode(int fd);
  ~RawMode();
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;

  void Restore();

 private:
  int fd_;
  std::mutex mutex_;
  std::optional<termios> before_;  // guarded by mutex_; empty when there is nothing to restore
};

}  // namespace sealift::cli
