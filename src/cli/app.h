// The whole command line.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.h"
#include "cli/controller.h"

namespace sealift::cli {

// CommandLine is the tree of nouns and verbs and what parsing fills in.
struct CommandLine {
  Settings settings;
  Action action;  // of the verb that was chosen
  CLI::App app;

  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;
};

// RunCommandLine parses, runs the verb and returns the exit code of the process. Errors are printed
// on stderr.
[[nodiscard]] int RunCommandLine(int argc, const char* const* argv);

}  // namespace sealift::cli
