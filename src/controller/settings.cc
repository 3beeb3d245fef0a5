#include "controller/settings.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <array>

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

absl::Status ApplyOne(const std::string& file, const YAML::Node& key, const YAML::Node& value,
                      Settings& settings) {
  const std::string name = key.as<std::string>();
  if (name == "crypto") return ApplyCrypto(file, key, value, settings);
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
          "unknown key '{}': known are state_dir, listen, enrolment_listen, log_level, crypto",
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
