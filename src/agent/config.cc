#include "agent/config.h"

#include <fmt/format.h>
#include <sched.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

using Setter = std::function<absl::Status(Config&, const std::string&)>;

Setter Text(std::string Config::*field) {
  return [field](Config& config, const std::string& value) {
    config.*field = value;
    return absl::OkStatus();
  };
}

absl::Status SetPorts(Config& config, const std::string& value) {
  const std::size_t dash = value.find('-');
  unsigned first = 0;
  unsigned last = 0;
  if (!absl::SimpleAtoi(value.substr(0, dash), &first) ||
      !absl::SimpleAtoi(dash == std::string::npos ? value : value.substr(dash + 1), &last) ||
      first == 0 || first > last || last > 65535) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is not a range of ports such as 7440-7499", value));
  }
  config.migration_first_port = static_cast<std::uint16_t>(first);
  config.migration_last_port = static_cast<std::uint16_t>(last);
  return absl::OkStatus();
}

absl::Status AddMigrationAddress(Config& config, const std::string& value) {
  if (value.empty()) return absl::InvalidArgumentError("an address is missing");
  if (std::ranges::find(config.migration_addresses, value) != config.migration_addresses.end()) {
    return absl::InvalidArgumentError(fmt::format("'{}' is given twice", value));
  }
  if (config.migration_addresses.size() == mover::kMaxListeners) {
    return absl::InvalidArgumentError(fmt::format("more than {} addresses", mover::kMaxListeners));
  }
  config.migration_addresses.push_back(value);
  return absl::OkStatus();
}

// One instead of a list.
absl::Status SetMigrationAddress(Config& config, const std::string& value) {
  config.migration_addresses.clear();
  return AddMigrationAddress(config, value);
}

absl::StatusOr<int> Number(const std::string& value, int least, int most) {
  int number = 0;
  if (absl::SimpleAtoi(value, &number) && number >= least && number <= most) return number;
  return absl::InvalidArgumentError(
      fmt::format("'{}' is not a number from {} to {}", value, least, most));
}

absl::Status SetMoverNice(Config& config, const std::string& value) {
  constexpr int kLowestPriority = 19;
  SEALIFT_ASSIGN_OR_RETURN(config.mover_scheduling.nice, Number(value, 0, kLowestPriority));
  return absl::OkStatus();
}

absl::Status SetReconnectSeconds(Config& config, const std::string& value) {
  constexpr int kMostSeconds = 3600;
  SEALIFT_ASSIGN_OR_RETURN(const int seconds, Number(value, 1, kMostSeconds));
  config.reconnect_seconds = static_cast<std::uint32_t>(seconds);
  return absl::OkStatus();
}

// A list in the kernel's notation: 0-3,8.
absl::Status SetMoverCpus(Config& config, const std::string& value) {
  absl::Status bad = absl::InvalidArgumentError(
      fmt::format("'{}' is not a list of processors such as 0-3,8", value));
  std::vector<int> cpus;
  const std::vector<std::string> parts = absl::StrSplit(value, ',');
  for (const std::string& part : parts) {
    const std::pair<std::string, std::string> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0;
    int last = 0;
    if (!absl::SimpleAtoi(ends.first, &first) ||
        !absl::SimpleAtoi(part.find('-') == std::string::npos ? ends.first : ends.second, &last) ||
        first < 0 || first > last || last >= CPU_SETSIZE) {
      return bad;
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  config.mover_scheduling.cpus = std::move(cpus);
  return absl::OkStatus();
}

absl::Status SetCrypto(Config& config, const std::string& value) {
  if (value != "auto" && value != "off") {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is neither auto nor off nor a map of backend and fips", value));
  }
  config.crypto = {};
  config.crypto.off = value == "off";
  return absl::OkStatus();
}

absl::Status SetBackend(Crypto& crypto, const std::string& value) {
  crypto.backend = record::ParseAeadBackend(value);
  if (crypto.backend || value == "auto") return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("'{}' is neither auto nor openssl nor ipsec-mb", value));
}

absl::Status SetFips(Crypto& crypto, const std::string& value) {
  if (value != "true" && value != "false") {
    return absl::InvalidArgumentError(fmt::format("'{}' is neither true nor false", value));
  }
  crypto.provider = value == "true" ? keys::Provider::kFips : keys::Provider::kDefault;
  return absl::OkStatus();
}

// With a FIPS provider all cryptography is OpenSSL's.
absl::Status SettleBackend(Crypto& crypto) {
  if (crypto.provider == keys::Provider::kDefault) return absl::OkStatus();
  if (crypto.backend == record::AeadBackend::kIpsecMb) {
    return absl::InvalidArgumentError(
        "backend ipsec-mb has no FIPS provider: with fips: true use openssl or auto");
  }
  crypto.backend = record::AeadBackend::kOpenssl;
  return absl::OkStatus();
}

const std::map<std::string, Setter>& Setters() {
  static const std::map<std::string, Setter> setters = {
      {"listen", Text(&Config::listen)},
      {"state_dir", Text(&Config::state_dir)},
      {"run_dir", Text(&Config::run_dir)},
      {"log_level", Text(&Config::log_level)},
      {"qemu_binary", Text(&Config::qemu_binary)},
      {"qemu_user", Text(&Config::qemu_user)},
      {"mover_binary", Text(&Config::mover_binary)},
      {"mover_user", Text(&Config::mover_user)},
      {"mover_nice", SetMoverNice},
      {"mover_cpus", SetMoverCpus},
      {"migration_address", SetMigrationAddress},
      {"migration_addresses", SetMigrationAddress},
      {"migration_ports", SetPorts},
      {"reconnect_seconds", SetReconnectSeconds},
      {"crypto", SetCrypto},
  };
  return setters;
}

absl::Status AtLine(const YAML::Mark& mark, const std::string& what) {
  return absl::InvalidArgumentError(fmt::format("line {}: {}", mark.line + 1, what));
}

absl::Status SetCryptoField(Crypto& crypto, const YAML::Node& key, const YAML::Node& value) {
  const auto name = key.as<std::string>();
  if (name != "backend" && name != "fips") {
    return AtLine(key.Mark(), fmt::format("crypto: unknown key '{}'", name));
  }
  if (!value.IsScalar()) {
    return AtLine(key.Mark(), fmt::format("crypto.{}: must be one value", name));
  }
  absl::Status status = name == "backend" ? SetBackend(crypto, value.as<std::string>())
                                          : SetFips(crypto, value.as<std::string>());
  if (status.ok()) return status;
  return AtLine(value.Mark(), fmt::format("crypto.{}: {}", name, base::MessageOf(status)));
}

absl::Status SetCryptoMap(Config& config, const YAML::Node& map) {
  Crypto crypto;
  std::set<std::string> seen;
  for (const auto& entry : map) {
    SEALIFT_RETURN_IF_ERROR(SetCryptoField(crypto, entry.first, entry.second));
    const auto name = entry.first.as<std::string>();
    if (!seen.insert(name).second) {
      return AtLine(entry.first.Mark(), fmt::format("crypto.{}: given twice", name));
    }
  }
  const absl::Status settled = SettleBackend(crypto);
  if (!settled.ok()) {
    return AtLine(map.Mark(), fmt::format("crypto: {}", base::MessageOf(settled)));
  }
  config.crypto = crypto;
  return absl::OkStatus();
}

absl::Status SetMigrationAddresses(Config& config, const YAML::Node& list) {
  config.migration_addresses.clear();
  for (const auto& entry : list) {
    if (!entry.IsScalar()) return AtLine(entry.Mark(), "migration_addresses: not an address");
    const absl::Status status = AddMigrationAddress(config, entry.as<std::string>());
    if (status.ok()) continue;
    return AtLine(entry.Mark(), fmt::format("migration_addresses: {}", base::MessageOf(status)));
  }
  return absl::OkStatus();
}

absl::Status SetField(Config& config, const YAML::Node& key, const YAML::Node& value) {
  const auto name = key.as<std::string>();
  if (name == "crypto" && value.IsMap()) return SetCryptoMap(config, value);
  if (name == "migration_addresses" && value.IsSequence()) {
    return SetMigrationAddresses(config, value);
  }
  const auto setter = Setters().find(name);
  if (setter == Setters().end()) return AtLine(key.Mark(), fmt::format("unknown key '{}'", name));
  if (!value.IsScalar()) return AtLine(key.Mark(), fmt::format("{}: must be one value", name));
  absl::Status status = setter->second(config, value.as<std::string>());
  if (status.ok()) return status;
  return AtLine(value.Mark(), fmt::format("{}: {}", name, base::MessageOf(status)));
}

}  // namespace

absl::StatusOr<Config> ParseConfig(const std::string& yaml) {
  Config config;
  try {
    const YAML::Node root = YAML::Load(yaml);
    if (root.IsNull()) return config;
    if (!root.IsMap()) return AtLine(root.Mark(), "must be a list of 'key: value' lines");
    for (const auto& entry : root) {
      SEALIFT_RETURN_IF_ERROR(SetField(config, entry.first, entry.second));
    }
  } catch (const YAML::Exception& error) {
    return AtLine(error.mark, error.msg);
  }
  return config;
}

}  // namespace sealift::agent
