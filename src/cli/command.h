// How a noun's file adds its verbs to the command line. Only command.cc, app.cc and the completion
// know the parser.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/exit_code.h"
#include "cli/session.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}  // namespace CLI

namespace sealift::cli {

// Action is the work of the verb that was chosen. An error is printed and gives the exit code.
using Action = std::function<absl::StatusOr<ExitCode>(Session&)>;

// Value types that shell completion knows: names of VMs, hosts and users, ids of migrations, files.
// A type like "json|yaml" lists the values.
inline constexpr char kVmType[] = "VM";
inline constexpr char kHostType[] = "HOST";
inline constexpr char kMigrationType[] = "MIGRATION";
inline constexpr char kUserType[] = "USER";
inline constexpr char kFileType[] = "FILE";

enum class Need { kOptional, kRequired };

template <typename Number>
struct Range {
  Number lowest;
  Number highest;
};
inline constexpr Range<std::uint64_t> kAnyCount{1, std::numeric_limits<std::uint32_t>::max()};
inline constexpr Range<std::uint64_t> kAnyNumber{0, std::numeric_limits<std::int64_t>::max()};

// Verb is a handle of one verb of the command line, which owns it and what its functions capture.
class Verb {
 public:
  explicit Verb(CLI::App& app) : app_(app) {}

  // Name adds a required positional argument. `name` is what the help calls it, `type` one of those
  // above.
  void Name(const std::string& name, const char* type, std::string& value,
            const std::string& description) const;
  // Names adds a positional argument that may be given any number of times.
  void Names(const std::string& name, const char* type, std::vector<std::string>& values,
             const std::string& description) const;
  // Texts adds an option that may be given again; each time with one value.
  void Texts(const std::string& name, const char* type, std::vector<std::string>& values,
             const std::string& description) const;
  // Text adds an option whose value is of that type.
  void Text(const std::string& name, const char* type, std::string& value,
            const std::string& description, Need need = Need::kOptional) const;
  // Choice adds an option with a fixed set of values.
  void Choice(const std::string& name, const std::vector<std::string>& choices, std::string& value,
              const std::string& description, Need need = Need::kOptional) const;
  // Whole adds an option for a whole number, Real one for any; `take` is called when it is given.
  void Whole(const std::string& name, const char* type, Range<std::uint64_t> range,
             std::function<void(std::uint64_t)> take, const std::string& description) const;
  void Real(const std::string& name, const char* type, Range<double> range, double& value,
            const std::string& description) const;
  // Flag adds an option without a value; `take` is called when it is given.
  void Flag(const std::string& name, std::function<void()> take,
            const std::string& description) const;

 private:
  CLI::App& app_;
};

// Noun is a handle of a word that needs one of its verbs after it; the command line itself is one.
class Noun {
 public:
  explicit Noun(CLI::App& app) : app_(app) {}

  [[nodiscard]] Noun AddNoun(const std::string& name, const std::string& description) const;
  [[nodiscard]] Verb AddVerb(const std::string& name, const std::string& description,
                             std::function<void()> chosen) const;

 private:
  CLI::App& app_;
};

// AddVerb adds a verb to `noun`; when it is given, `chosen` becomes its action. The arguments live
// as long as the command line.
template <typename Arguments>
std::pair<Verb, Arguments&> AddVerb(const Noun& noun, Action& chosen, const std::string& name,
                                    const std::string& description,
                                    absl::StatusOr<ExitCode> (*run)(Session&, const Arguments&)) {
  auto arguments = std::make_shared<Arguments>();
  const Verb verb = noun.AddVerb(name, description, [&chosen, arguments, run] {
    chosen = [arguments, run](Session& session) { return run(session, *arguments); };
  });
  return {verb, *arguments};
}

// One per noun.
void AddHostCommands(const Noun& root, Action& chosen);
void AddVmCommands(const Noun& root, Action& chosen);
void AddMigrationCommands(const Noun& root, Action& chosen);
void AddPolicyCommands(const Noun& root, Action& chosen);
void AddUserCommands(const Noun& root, Action& chosen);
void AddAuditCommand(const Noun& root, Action& chosen);
void AddEventsCommand(const Noun& root, Action& chosen);
void AddVersionCommand(const Noun& root, Action& chosen);

}  // namespace sealift::cli
