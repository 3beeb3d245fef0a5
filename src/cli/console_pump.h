// Copies between the user's terminal (or pipes) and a VM's serial console. Two threads: this one
// reads the input, another one writes the output.
#pragma once

#include <chrono>
#include <functional>
#include <string_view>

#include "absl/status/status.h"

namespace sealift::cli {

inline constexpr char kConsoleEscape = '\x1d';  // Ctrl-]

// ConsoleEnd is why the copying ended.
enum class ConsoleEnd {
  kServer,       // the far side ended it
  kEscape,       // the user typed the escape
  kIdle,         // the input ended and the guest has been silent for long enough
  kLeave,        // the leave descriptor became readable
  kOutputFailed  // the output cannot be written
};

struct ConsolePorts {
  int input = 0;
  int output = 1;
  int leave = -1;                          // becomes readable when the user wants to go: an eventfd
  std::chrono::milliseconds linger{2000};  // silence that ends it after the input; zero: never
};

// Receive blocks for output of the guest; false at its end. Send passes input on; false when the
// far side is gone. Leave ends a Receive that is blocked.
struct ConsoleStream {
  std::function<bool(std::string&)> receive;
  std::function<bool(std::string_view)> send;
  std::function<void()> leave;
};

// PumpConsole copies until something ends it. The escape counts only when the input is a terminal.
[[nodiscard]] ConsoleEnd PumpConsole(const ConsolePorts& ports, const ConsoleStream& stream);

}  // namespace sealift::cli
