// Settings of a running controller: defaults, then /etc/sealift/controller.yaml, then flags.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/socket.h"
#include "controller/migration_queue.h"
#include "keys/openssl_setup.h"

namespace sealift::controller {

inline constexpr char kDefaultStateDir[] = "/var/lib/sealift/controller";
inline constexpr char kDefaultConfigFile[] = "/etc/sealift/controller.yaml";

// Fencing is how the controller makes sure that a host is dead: a program that is run with the
// host's name and address after `arguments`, and succeeds once the host cannot run guests any more.
struct Fencing {
  std::vector<std::string> command;  // program and first arguments; empty: there is none
  std::chrono::seconds timeout{30};
  bool operator==(const Fencing&) const = default;
};

// Settings is a value. Addresses are "host:port"; port 0 takes any free one.
struct Settings {
  std::string state_dir = kDefaultStateDir;
  std::string listen = "0.0.0.0:7430";
  std::string enrolment_listen = "0.0.0.0:7431";
  std::string log_level = "info";
  keys::Provider provider = keys::Provider::kDefault;  // crypto.fips
  Fencing fencing;                                     // fence
  MigrationLimits limits;                              // limits
  bool operator==(const Settings&) const = default;
};

// ApplySettingsYaml overwrites what the YAML text names: state_dir, listen, enrolment_listen,
// log_level, crypto.fips, fence, limits. INVALID_ARGUMENT with file, line and key for anything
// else; `settings` is then unspecified.
[[nodiscard]] absl::Status ApplySettingsYaml(const std::string& file, const std::string& yaml,
                                             Settings& settings);

// ParseListenAddress reads "host", "host:port" or "[v6]:port" as base::ParseHostPort does; port 0
// is any free one.
[[nodiscard]] absl::StatusOr<base::HostPort> ParseListenAddress(const std::string& text,
                                                                std::uint16_t default_port);

// Presence says whether a file must be there.
enum class Presence { kOptional, kRequired };

// ApplySettingsFile is ApplySettingsYaml of a file. A missing optional file changes nothing.
[[nodiscard]] absl::Status ApplySettingsFile(const std::string& file, Presence presence,
                                             Settings& settings);

}  // namespace sealift::controller
