// The command line of sealift-controllerd.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "controller/backup.h"
#include "controller/settings.h"

namespace sealift::controller {

// InitCommand is `sealift-controllerd init`.
struct InitCommand {
  std::string address;
  std::string state_dir = kDefaultStateDir;
  std::string context_out = "/etc/sealift/context.yaml";
};

// AdminContextCommand is `sealift-controllerd admin-context`.
struct AdminContextCommand {
  std::string state_dir = kDefaultStateDir;
  std::string context_out = "/etc/sealift/context.yaml";
};

// BackupCommand is `sealift-controllerd backup`.
struct BackupCommand {
  std::string state_dir = kDefaultStateDir;
  std::string to;
  std::string passphrase_file;  // empty: ask
  CaKey key = CaKey::kEncrypted;
};

// RestoreCommand is `sealift-controllerd restore`.
struct RestoreCommand {
  std::string state_dir = kDefaultStateDir;
  std::string from;
  std::string passphrase_file;  // empty: ask, if need be
  std::vector<std::string> joined_since;
};

// RunCommand is `sealift-controllerd run`. What was not given comes from the configuration file or
// is the default.
struct RunCommand {
  std::optional<std::string> config;
  std::optional<std::string> state_dir;
  std::optional<std::string> listen;
  std::optional<std::string> enrolment_listen;
  std::optional<std::string> log_level;
  std::string ready_file;  // empty: none
};

// ParseCommandLine gives the command, or the exit code where help was asked for (0) or the usage
// was wrong (2); both have been printed then.
using Command =
    std::variant<int, InitCommand, AdminContextCommand, BackupCommand, RestoreCommand, RunCommand>;
[[nodiscard]] Command ParseCommandLine(int argc, char** argv);

// SettingsOf merges defaults, the configuration file and flags, in rising order.
[[nodiscard]] absl::StatusOr<Settings> SettingsOf(const RunCommand& command);

// WriteReadyFile writes {"port":N,"enrolment_port":N}, unless `path` is empty.
[[nodiscard]] absl::Status WriteReadyFile(const std::string& path, std::uint16_t port,
                                          std::uint16_t enrolment_port);

// ParentOf gives the folder of a path ("." for a bare name).
[[nodiscard]] std::string ParentOf(const std::string& path);

}  // namespace sealift::controller
