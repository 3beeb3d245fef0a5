// How a noun's file adds its verbs to the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/exit_code.h"
#include "cli/session.h"

namespace sealift::cli {

// Action is the work of the verb that was chosen. An error is printed and gives the exit code.
using Action = std::function<absl::StatusOr<ExitCode>(Session&)>;

// Value types that shell completion knows: names of VMs and hosts, ids of migrations, files. A type
// like "json|yaml" lists the values.
inline constexpr char kVmType[] = "VM";
inline constexpr char kHostType[] = "HOST";
inline constexpr char kMigrationType[] = "MIGRATION";
inline constexpr char kFileType[] = "FILE";

// AddNoun adds a word that needs one of its verbs after it.
CLI::App& AddNoun(CLI::App& root, const std::string& name, const std::string& description);

// AddVerb adds a verb to `parent`; when it is given, `chosen` becomes its action. The arguments
// live as long as the app.
template <typename Arguments>
std::pair<CLI::App&, Arguments&> AddVerb(CLI::App& parent, Action& chosen, const std::string& name,
                                         const std::string& description,
                                         absl::StatusOr<ExitCode> (*run)(Session&,
                                                                         const Arguments&)) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = parent.add_subcommand(name, description);
  verb->callback([&chosen, arguments, run] {
    chosen = [arguments, run](Session& session) { return run(session, *arguments); };
  });
  return {*verb, *arguments};
}

// AddName adds a required positional argument. `name` is what the help calls it, `type` one of
// those above.
CLI::Option* AddName(CLI::App& verb, const std::string& name, const char* type, std::string& value,
                     const std::string& description);

// AddChoice adds an option (or, without dashes, a positional argument) with a fixed set of values.
CLI::Option* AddChoice(CLI::App& verb, const std::string& name,
                       const std::vector<std::string>& choices, std::string& value,
                       const std::string& description);

// One per noun.
void AddHostCommands(CLI::App& root, Action& chosen);
void AddVmCommands(CLI::App& root, Action& chosen);
void AddMigrationCommands(CLI::App& root, Action& chosen);
void AddEventsCommand(CLI::App& root, Action& chosen);
void AddVersionCommand(CLI::App& root, Action& chosen);
void AddCompletionCommand(CLI::App& root, Action& chosen);

}  // namespace sealift::cli
