// The command line of sealift-agentd.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "agent/config.h"
#include "agent/migration_keeper.h"
#include "pki/identity.h"

namespace sealift::agent {

// JoinCommand is `sealift-agentd join`.
struct JoinCommand {
  std::string controller;
  std::string token;
  std::string state_dir;
};

// RunCommand is `sealift-agentd run`: the file's settings, overwritten by flags.
struct RunCommand {
  Config config;
  std::string ready_file;  // empty: none
};

// ParseCommandLine gives the command, or the exit code where help was asked for (0), the usage was
// wrong or the file is bad (2); both have been printed then.
[[nodiscard]] std::variant<int, JoinCommand, RunCommand> ParseCommandLine(int argc, char** argv);

// MakeMigrationSettings finds the mover and its user.
[[nodiscard]] absl::StatusOr<MigrationSettings> MakeMigrationSettings(const Config& config,
                                                                      const pki::Identity& self);

// WriteReadyFile writes {"port":N}, unless `path` is empty.
[[nodiscard]] absl::Status WriteReadyFile(const std::string& path, std::uint16_t port);

}  // namespace sealift::agent
