#include "controller/settings.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <array>
#include <optional>

#include "base/file.h"
#include "base/status.h"

namespace sealift::controller {
namespace {

struct Key {
  const char* name;
  std::string Settings::*member;
};
constexpr std::array kKeys{Key{"state_dir", &Settings::state_dir}, Key{"listen", &Settings::listen},
                           Key{"enrolment_listen", &Settings::enrolment_listen},
                           Key{"log_level", &Settings::log_level}};

absl::Status At(const std::string& file, const YAML::Mark& mark, const std::string& what) {
  return absl::InvalidArgumentError(fmt::format("{}: line {}: {}", file, mark.line + 1, what));
}

// `crypto: {fips: true|false}`.
absl::Status ApplyCrypto(const std::string& file, const YAML::Node& key, const YAML::Node& value,
                         Settings& settings) {
  if (!value.IsMap()) return At(file, key.Mark(), "crypto: must be a map with the key fips");
  for (const auto& entry : value) {
    const YAML::Mark mark = entry.first.Mark();
    const auto name = entry.first.as<std::string>();
    if (name != "fips") {
      return At(file, mark, fmt::format("unknown key 'crypto.{}': known is fips", name));
    }
    const std::string text = entry.second.IsScalar() ? entry.second.Scalar() : "";
    if (text != "true" && text != "false") {
      return At(file, mark, "crypto.fips: is neither true nor false");
    }
    settings.provider = text == "true" ? keys::Provider::kFips : keys::Provider::kDefault;
  }
  return absl::OkStatus();
}

// ParseCount reads a whole number of 1 to `most`.
std::optional<std::uint32_t> ParseCount(const YAML::Node& value, std::uint32_t most) {
  std::uint32_t count = 0;
  if (!YAML::convert<std::uint32_t>::decode(value, count) || count < 1 || count > most) {
    return std::nullopt;
  }
  return count;
}

// `limits: {migrations: N, migrations_per_host: N}`.
absl::Status ApplyLimits(const std::string& file, const YAML::Node& key, const YAML::Node& value,
                         Settings& settings) {
  constexpr std::uint32_t kMost = 1000;
  if (!value.IsMap()) {
    return At(file, key.Mark(),
              "limits: must be a map with the keys migrations and migrations_per_host");
  }
  for (const auto& entry : value) {
    const YAML::Mark mark = entry.first.Mark();
    const auto name = entry.first.as<std::string>();
    if (name != "migrations" && name != "migrations_per_host") {
      return At(
          file, mark,
          fmt::format("unknown key 'limits.{}': known are migrations, migrations_per_host", name));
    }
    const std::optional<std::uint32_t> count = ParseCount(entry.second, kMost);
    if (!count) return At(file, mark, fmt::format("limits.{}: must be 1 to {}", name, kMost));
    (name == "migrations" ? settings.limits.total : settings.limits.per_host) = *count;
  }
  return absl::OkStatus();
}

// `fence: {command: [PROGRAM, ARGUMENT, ...], timeout_seconds: N}`.
absl::Status ApplyFence(const std::string& file, const YAML::Node& key, const YAML::Node& value,
                        Settings& settings) {
  constexpr std::uint32_t kLongest = 3600;
  if (!value.IsMap()) {
    return At(file, key.Mark(), "fence: must be a map with the keys command and timeout_seconds");
  }
  for (const auto& entry : value) {
    const YAML::Mark mark = entry.first.Mark();
    const auto name = entry.first.as<std::string>();
    if (name == "command") {
      const bool words = entry.second.IsSequence() && entry.second.size() > 0;
      if (!words || !entry.second[0].Scalar().starts_with('/')) {
        return At(file, mark,
                  "fence.command: must be a list that begins with the absolute path of a program");
      }
      settings.fencing.command = entry.second.as<std::vector<std::string>>();
    } else if (name == "timeout_seconds") {
      const std::optional<std::uint32_t> seconds = ParseCount(entry.second, kLongest);
      if (!seconds) {
        return At(file, mark, fmt::format("fence.timeout_seconds: must be 1 to {}", kLongest));
      }
      settings.fencing.timeout = std::chrono::seconds(*seconds);
    } else {
      return At(file, mark,
                fmt::format("unknown key 'fence.{}': known are command, timeout_seconds", name));
    }
  }
  return absl::OkStatus();
}

absl::Status ApplyOne(const std::string& file, const YAML::Node& key, const YAML::Node& value,
                      Settings& settings) {
  const std::string name = key.as<std::string>();
  if (name == "crypto") return ApplyCrypto(file, key, value, settings);
  if (name == "fence") return ApplyFence(file, key, value, settings);
  if (name == "limits") return ApplyLimits(file, key, value, settings);
  for (const Key& known : kKeys) {
    if (name != known.name) continue;
    if (!value.IsScalar() || value.Scalar().empty()) {
      return At(file, key.Mark(), fmt::format("{}: give one value", name));
    }
    settings.*known.member = value.Scalar();
    return absl::OkStatus();
  }
  return At(
      file, key.Mark(),
      fmt::format(
          "unknown key '{}': known are state_dir, listen, enrolment_listen, log_level, crypto, "
          "fence, limits",
          name));
}

}  // namespace

absl::Status ApplySettingsYaml(const std::string& file, const std::string& yaml,
                               Settings& settings) {
  try {
    const YAML::Node document = YAML::Load(yaml);
    if (document.IsNull()) return absl::OkStatus();
    if (!document.IsMap()) return At(file, document.Mark(), "write one 'key: value' a line");
    for (const auto& entry : document) {
      SEALIFT_RETURN_IF_ERROR(ApplyOne(file, entry.first, entry.second, settings));
    }
    return absl::OkStatus();
  } catch (const YAML::Exception& error) {
    return At(file, error.mark, error.msg);
  }
}

absl::StatusOr<base::HostPort> ParseListenAddress(const std::string& text,
                                                  std::uint16_t default_port) {
  constexpr std::string_view kAnyPort = ":0";
  if (!text.ends_with(kAnyPort)) return base::ParseHostPort(text, default_port);
  SEALIFT_ASSIGN_OR_RETURN(
      base::HostPort address,
      base::ParseHostPort(text.substr(0, text.size() - kAnyPort.size()), default_port));
  address.port = 0;
  return address;
}

absl::Status ApplySettingsFile(const std::string& file, Presence presence, Settings& settings) {
  const absl::StatusOr<std::string> yaml = base::ReadFile(file);
  if (absl::IsNotFound(yaml.status()) && presence == Presence::kOptional) return absl::OkStatus();
  if (!yaml.ok()) return yaml.status();
  return ApplySettingsYaml(file, *yaml, settings);
}

}  // namespace sealift::controller
