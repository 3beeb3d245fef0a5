#include "controller/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "base/file.h"
#include "base/status.h"

namespace sealift::controller {
namespace {

void AddInit(CLI::App& app, InitCommand& command) {
  CLI::App* init = app.add_subcommand(
      "init", "Make the certificate authority, the controller's identity and the first operator");
  init->add_option("--address", command.address,
                   "How hosts and operators reach this machine: HOST[:PORT]")
      ->required();
  init->add_option("--state-dir", command.state_dir, "Folder of the controller's state")
      ->capture_default_str();
  init->add_option("--context-out", command.context_out, "Where the administrator's context goes")
      ->capture_default_str();
}

void AddAdminContext(CLI::App& app, AdminContextCommand& command) {
  CLI::App* admin = app.add_subcommand("admin-context",
                                       "Make another context for the user admin, when the first "
                                       "was lost; the controller must not run");
  admin->add_option("--state-dir", command.state_dir, "Folder of the controller's state")
      ->capture_default_str();
  admin->add_option("--context-out", command.context_out, "Where the context goes")
      ->capture_default_str();
}

void AddBackup(CLI::App& app, BackupCommand& command) {
  CLI::App* backup = app.add_subcommand(
      "backup", "Copy the controller's state into one file; the controller may run");
  backup->add_option("--to", command.to, "The file to make")->required();
  CLI::Option* passphrase =
      backup->add_option("--passphrase-file", command.passphrase_file,
                         "File with the passphrase that the CA's key is encrypted with; without "
                         "it, you are asked");
  backup
      ->add_flag_callback(
          "--without-ca-key", [&command] { command.key = CaKey::kLeftOut; },
          "Leave the CA's key out: keep it elsewhere, no controller runs without it")
      ->excludes(passphrase);
  backup->add_option("--state-dir", command.state_dir, "Folder of the controller's state")
      ->capture_default_str();
}

void AddRestore(CLI::App& app, RestoreCommand& command) {
  CLI::App* restore = app.add_subcommand(
      "restore", "Make the controller's state from a backup, where there is none");
  restore->add_option("--from", command.from, "File that backup has made")->required();
  restore->add_option("--passphrase-file", command.passphrase_file,
                      "File with the backup's passphrase; without it, you are asked");
  restore->add_option("--joined-since", command.joined_since,
                      "A host that joined after the backup was made; once for each");
  restore->add_option("--state-dir", command.state_dir, "Folder of the controller's state")
      ->capture_default_str();
}

void AddRunOptions(CLI::App& app, RunCommand& command) {
  app.add_option("--config", command.config,
                 fmt::format("YAML file with the settings below [{}]", kDefaultConfigFile));
  app.add_option("--state-dir", command.state_dir,
                 fmt::format("Folder of the controller's state [{}]", kDefaultStateDir));
  app.add_option("--listen", command.listen, "Where operators connect: ADDR:PORT [0.0.0.0:7430]");
  app.add_option("--enrolment-listen", command.enrolment_listen,
                 "Where hosts join: ADDR:PORT [0.0.0.0:7431]");
  app.add_option("--log-level", command.log_level, "debug, info, warn or error [info]");
  app.add_option("--ready-file", command.ready_file,
                 "File to write the ports to, as JSON, once they are served");
}

}  // namespace

Command ParseCommandLine(int argc, char** argv) {
  CLI::App app("The controller of sealift. Without a subcommand it runs.", "sealift-controllerd");
  app.set_version_flag("--version", SEALIFT_VERSION);
  app.require_subcommand(0, 1);
  InitCommand init;
  AdminContextCommand admin;
  BackupCommand backup;
  RestoreCommand restore;
  RunCommand run;
  AddInit(app, init);
  AddAdminContext(app, admin);
  AddBackup(app, backup);
  AddRestore(app, restore);
  AddRunOptions(app, run);
  AddRunOptions(*app.add_subcommand("run", "Serve until SIGTERM or SIGINT"), run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    constexpr int kUsage = 2;
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  if (app.got_subcommand("init")) return init;
  if (app.got_subcommand("admin-context")) return admin;
  if (app.got_subcommand("backup")) return backup;
  if (app.got_subcommand("restore")) return restore;
  return run;
}

absl::StatusOr<Settings> SettingsOf(const RunCommand& command) {
  Settings settings;
  SEALIFT_RETURN_IF_ERROR(
      ApplySettingsFile(command.config.value_or(kDefaultConfigFile),
                        command.config ? Presence::kRequired : Presence::kOptional, settings));
  settings.state_dir = command.state_dir.value_or(settings.state_dir);
  settings.listen = command.listen.value_or(settings.listen);
  settings.enrolment_listen = command.enrolment_listen.value_or(settings.enrolment_listen);
  settings.log_level = command.log_level.value_or(settings.log_level);
  return settings;
}

absl::Status WriteReadyFile(const std::string& path, std::uint16_t port,
                            std::uint16_t enrolment_port) {
  if (path.empty()) return absl::OkStatus();
  return base::WriteFileDurably(
      path, fmt::format("{{\"port\":{},\"enrolment_port\":{}}}\n", port, enrolment_port), 0644);
}

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace sealift::controller
