#include "cli/context.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "base/file.h"
#include "base/status.h"

namespace sealift::cli {
namespace {

constexpr std::size_t kMaxContextBytes = std::size_t{256} * 1024;

struct Field {
  std::string_view key;
  std::string Context::*member;
};
constexpr Field kFields[] = {{"controller", &Context::controller},
                             {"trust_domain", &Context::trust_domain},
                             {"ca", &Context::ca_pem},
                             {"identity", &Context::identity_pem}};

bool Exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

absl::Status CheckPrivate(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return base::ErrnoStatus(fmt::format("read context file {}", path), errno);
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(fmt::format("context file {} is not a file", path));
  }
  if ((info.st_mode & 0077U) != 0) {
    return absl::PermissionDeniedError(
        fmt::format("context file {} holds a private key but others have access to it (mode "
                    "{:04o}): chmod 600 {}",
                    path, info.st_mode & 07777U, path));
  }
  return absl::OkStatus();
}

absl::Status Malformed(const std::string& path, const YAML::Mark& mark, std::string_view what) {
  return absl::InvalidArgumentError(
      fmt::format("context file {}:{}: {}", path, mark.line + 1, what));
}

absl::Status ReadField(const std::string& path, const YAML::Node& key, const YAML::Node& value,
                       Context& context) {
  for (const Field& field : kFields) {
    if (key.Scalar() != field.key) continue;
    if (!value.IsScalar() || value.Scalar().empty()) {
      return Malformed(path, value.Mark(), fmt::format("{}: must be text", field.key));
    }
    context.*field.member = value.Scalar();
    return absl::OkStatus();
  }
  return Malformed(path, key.Mark(), fmt::format("{}: unknown key", key.Scalar()));
}

absl::StatusOr<Context> ReadFields(const std::string& path, const YAML::Node& root) {
  if (!root.IsMap()) return Malformed(path, root.Mark(), "must be a map of keys to values");
  Context context;
  for (const auto& entry : root) {
    SEALIFT_RETURN_IF_ERROR(ReadField(path, entry.first, entry.second, context));
  }
  for (const Field& field : kFields) {
    if (!(context.*field.member).empty()) continue;
    return absl::InvalidArgumentError(fmt::format("context file {}: {}: missing", path, field.key));
  }
  return context;
}

std::string Indented(std::string_view text) {
  std::string lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines += fmt::format("  {}\n", text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace

std::vector<std::string> ContextPaths() {
  std::vector<std::string> paths;
  const char* config = std::getenv("XDG_CONFIG_HOME");
  const char* home = std::getenv("HOME");
  if (config != nullptr && *config == '/') {
    paths.push_back(fmt::format("{}/sealift/context.yaml", config));
  } else if (home != nullptr && *home == '/') {
    paths.push_back(fmt::format("{}/.config/sealift/context.yaml", home));
  }
  paths.emplace_back("/etc/sealift/context.yaml");
  return paths;
}

absl::StatusOr<std::string> FindContext(const std::string& named,
                                        const std::vector<std::string>& paths) {
  if (!named.empty()) {
    if (Exists(named)) return named;
    return absl::InvalidArgumentError(
        fmt::format("there is no context file {}: --context and SEALIFT_CONTEXT must name the one "
                    "that `sealift-controllerd init` made",
                    named));
  }
  for (const std::string& path : paths) {
    if (Exists(path)) return path;
  }
  return absl::InvalidArgumentError(fmt::format(
      "there is no context file ({}): copy the one that `sealift-controllerd init` made "
      "on the controller there, or name it with --context or SEALIFT_CONTEXT",
      fmt::join(paths, ", ")));
}

absl::StatusOr<Context> ReadContext(const std::string& path) {
  SEALIFT_RETURN_IF_ERROR(CheckPrivate(path));
  SEALIFT_ASSIGN_OR_RETURN(const std::string text, base::ReadFile(path, kMaxContextBytes));
  try {
    return ReadFields(path, YAML::Load(text));
  } catch (const YAML::Exception& error) {
    return Malformed(path, error.mark, error.msg);
  }
}

absl::Status WriteContext(const std::string& path, const Context& context) {
  const std::string text = fmt::format(
      "# An operator's access to sealift. It holds a private key: keep it to yourself, mode 0600.\n"
      "controller: {}\ntrust_domain: {}\nca: |\n{}identity: |\n{}",
      context.controller, context.trust_domain, Indented(context.ca_pem),
      Indented(context.identity_pem));
  return base::WriteFileDurably(path, text, 0600);
}

}  // namespace sealift::cli
