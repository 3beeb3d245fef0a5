#include "agent/options.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <system_error>

#include "base/file.h"
#include "base/status.h"
#include "rpc/protocol.h"

namespace sealift::agent {
namespace {

constexpr char kDefaultConfigFile[] = "/etc/sealift/agent.yaml";
constexpr int kUsageExit = 2;

// What flags say; they win over the file.
struct Flags {
  std::optional<std::string> config;
  std::optional<std::string> state_dir;
  std::optional<std::string> run_dir;
  std::optional<std::string> listen;
  std::optional<std::string> log_level;
};

absl::StatusOr<Config> ReadConfig(const std::optional<std::string>& path) {
  const std::string file = path.value_or(kDefaultConfigFile);
  const absl::StatusOr<std::string> text = base::ReadFile(file);
  if (!path && absl::IsNotFound(text.status())) return Config{};
  SEALIFT_RETURN_IF_ERROR(text.status());
  absl::StatusOr<Config> config = ParseConfig(*text);
  if (!config.ok()) return base::Annotate(config.status(), file);
  return config;
}

absl::StatusOr<Config> MergeConfig(const Flags& flags) {
  SEALIFT_ASSIGN_OR_RETURN(Config config, ReadConfig(flags.config));
  config.state_dir = flags.state_dir.value_or(config.state_dir);
  config.run_dir = flags.run_dir.value_or(config.run_dir);
  config.listen = flags.listen.value_or(config.listen);
  config.log_level = flags.log_level.value_or(config.log_level);
  return config;
}

// The mover stands beside the agent in a build, and in libexec when installed.
absl::StatusOr<std::string> FindMover() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path folder = self.parent_path();
  for (const auto& candidate :
       {folder / "sealift-mover", folder.parent_path() / "libexec" / "sealift" / "sealift-mover"}) {
    if (access(candidate.c_str(), X_OK) == 0) return candidate.string();
  }
  return absl::FailedPreconditionError(
      fmt::format("sealift-mover is neither in {} nor in ../libexec/sealift: install it, or name "
                  "it as mover_binary in {}",
                  folder.string(), kDefaultConfigFile));
}

}  // namespace

std::variant<int, JoinCommand, RunCommand> ParseCommandLine(int argc, char** argv) {
  CLI::App app{"sealift-agentd: runs the VMs of one host and supervises their migrations"};
  app.set_version_flag("--version", rpc::kVersion);
  Flags flags;
  RunCommand run;
  JoinCommand join{.controller = {}, .token = {}, .state_dir = Config{}.state_dir};

  CLI::App* run_app = app.add_subcommand("run", "Serve (the default)");
  for (CLI::App* at : {&app, run_app}) {
    at->add_option("--config", flags.config,
                   fmt::format("Configuration file (default {})", kDefaultConfigFile));
    at->add_option("--state-dir", flags.state_dir, "Where identity and VM records are kept");
    at->add_option("--run-dir", flags.run_dir, "Where sockets of running VMs are");
    at->add_option("--listen", flags.listen, "HOST:PORT to serve on; port 0 takes a free one");
    at->add_option("--log-level", flags.log_level, "debug, info, warn or error");
    at->add_option("--ready-file", run.ready_file, "Write {\"port\":N} there once serving");
  }
  CLI::App* join_app = app.add_subcommand("join", "Join a controller with a one-time token");
  join_app->add_option("--controller", join.controller, "HOST[:PORT] of its enrolment endpoint")
      ->required();
  join_app->add_option("--token", join.token, "Token from 'sealift host add'")->required();
  join_app->add_option("--state-dir", join.state_dir, "Where the identity is kept")
      ->capture_default_str();
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageExit;
  }
  if (join_app->parsed()) return join;
  absl::StatusOr<Config> config = MergeConfig(flags);
  if (!config.ok()) {
    fmt::print(stderr, "sealift-agentd: {}\n", base::MessageOf(config.status()));
    return kUsageExit;
  }
  run.config = *std::move(config);
  return run;
}

absl::StatusOr<MigrationSettings> MakeMigrationSettings(const Config& config,
                                                        const pki::Identity& self) {
  MigrationSettings settings;
  settings.mover.binary = config.mover_binary;
  if (settings.mover.binary.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(settings.mover.binary, FindMover());
  }
  settings.mover.program =
      std::make_shared<base::UniqueFd>(open(settings.mover.binary.c_str(), O_PATH | O_CLOEXEC));
  if (!settings.mover.program->valid()) {
    return base::ErrnoStatus(fmt::format("open {}", settings.mover.binary), errno);
  }
  SEALIFT_ASSIGN_OR_RETURN(settings.mover.user, base::LookUpUser(config.mover_user));
  settings.mover.crypto = config.crypto;
  settings.mover.scheduling = config.mover_scheduling;
  settings.mover.reconnect_seconds = config.reconnect_seconds;
  settings.self = self.ToUri();
  settings.migration_addresses = config.migration_addresses;
  settings.first_port = config.migration_first_port;
  settings.last_port = config.migration_last_port;
  return settings;
}

absl::Status WriteReadyFile(const std::string& path, std::uint16_t port) {
  if (path.empty()) return absl::OkStatus();
  return base::WriteFileDurably(path, fmt::format("{{\"port\":{}}}\n", port), 0644);
}

}  // namespace sealift::agent
