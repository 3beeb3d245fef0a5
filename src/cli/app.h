// The whole command line.
#pragma once

namespace sealift::cli {

// RunCommandLine parses, runs the verb and returns the exit code of the process. Errors are printed
// on stderr.
[[nodiscard]] int RunCommandLine(int argc, const char* const* argv);

}  // namespace sealift::cli
