// Completion of commands in shells, made from the command line's own tree of nouns, verbs and
// options.
#pragma once

#include <string>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}  // namespace CLI

namespace sealift::cli {

enum class Shell { kBash, kZsh, kFish };

// CompletionScript is what the shell is to source. Names of VMs and hosts and ids of migrations are
// asked of the controller when they are needed.
[[nodiscard]] std::string CompletionScript(const CLI::App& root, Shell shell);

}  // namespace sealift::cli
