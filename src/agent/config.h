// The agent's file, /etc/sealift/agent.yaml. Everything has a default; a missing file is an empty
// one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "keys/openssl_setup.h"
#include "mover/control.h"
#include "record/aead.h"

namespace sealift::agent {

// Crypto says whether this host may encrypt migrations, and with what.
struct Crypto {
  bool off = false;
  std::optional<record::AeadBackend> backend = {};  // nothing: the fastest of this CPU
  // kFips is for the agent and its movers; the backend is OpenSSL then.
  keys::Provider provider = keys::Provider::kDefault;

  bool operator==(const Crypto&) const = default;
};

// Scheduling keeps movers out of the way of guests.
struct Scheduling {
  int nice = 0;           // 0 to 19
  std::vector<int> cpus;  // that they may run on; empty: all

  bool operator==(const Scheduling&) const = default;
};

struct Config {
  std::string listen = "0.0.0.0:7432";
  std::string state_dir = "/var/lib/sealift/agent";
  std::string run_dir = "/run/sealift";
  std::string log_level = "info";
  std::string qemu_binary = "/usr/bin/qemu-system-x86_64";
  std::string qemu_user = "sealift-qemu";
  std::string mover_binary;  // empty: sealift-mover beside this program or in ../libexec/sealift
  std::string mover_user = "sealift-mover";
  Scheduling mover_scheduling;
  // Where movers listen, all of them; empty: the address the controller knows us by.
  std::vector<std::string> migration_addresses;
  std::uint16_t migration_first_port = 7440;
  std::uint16_t migration_last_port = 7499;
  std::uint32_t reconnect_seconds = mover::kReconnectSeconds;
  Crypto crypto;
};

// ParseConfig reads YAML. Errors are INVALID_ARGUMENT, "line 3: unknown key 'listn'".
[[nodiscard]] absl::StatusOr<Config> ParseConfig(const std::string& yaml);

}  // namespace sealift::agent
