#include "controller/daemon.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include <csignal>
#include <cstdio>

#include "base/file.h"
#include "base/log.h"
#include "base/status.h"
#include "cli/context.h"
#include "controller/command_line.h"
#include "controller/controller.h"
#include "controller/passphrase.h"
#include "keys/openssl_setup.h"
#include "keys/secret_bytes.h"
#include "keys/self_test.h"
#include "rpc/protocol.h"

namespace sealift::controller {
namespace {

absl::Status WriteAdminContext(const std::string& path, const AdminContext& admin) {
  SEALIFT_RETURN_IF_ERROR(base::MakeDirectories(ParentOf(path)));
  return cli::WriteContext(
      path, {admin.controller, admin.trust_domain, admin.ca_pem, admin.identity_pem});
}

absl::Status Init(const InitCommand& command) {
  const base::SystemClock clock;
  SEALIFT_ASSIGN_OR_RETURN(const base::HostPort address,
                           base::ParseHostPort(command.address, rpc::kControllerPort));
  const auto write_context = [&](const AdminContext& admin) {
    return WriteAdminContext(command.context_out, admin);
  };
  SEALIFT_RETURN_IF_ERROR(InitInstallation(command.state_dir, address, clock, write_context));
  fmt::print(
      "The certificate authority is in {}.\n"
      "The administrator's context is {}: keep it secret.\n"
      "Next: start sealift-controllerd, then add a host: sealift host add NAME --address ADDR\n",
      command.state_dir, command.context_out);
  return absl::OkStatus();
}

absl::Status NewAdminContext(const AdminContextCommand& command) {
  const base::SystemClock clock;
  SEALIFT_RETURN_IF_ERROR(MakeAdminContext(
      command.state_dir, clock,
      [&](const AdminContext& admin) { return WriteAdminContext(command.context_out, admin); }));
  fmt::print("The administrator's context is {}: keep it secret.\n", command.context_out);
  return absl::OkStatus();
}

absl::Status MakeBackup(const BackupCommand& command) {
  const base::SystemClock clock;
  SEALIFT_RETURN_IF_ERROR(BackUp(
      command.state_dir, command.to, command.key,
      [&] { return NewPassphrase(command.passphrase_file); }, clock));
  fmt::print("The backup is {}. {}\n", command.to,
             command.key == CaKey::kEncrypted
                 ? "The CA's key in it opens with the passphrase only: keep that elsewhere."
                 : fmt::format("The CA's key is not in it: keep {} elsewhere, no controller runs "
                               "without it.",
                               StateFiles(command.state_dir).ca_key));
  return absl::OkStatus();
}

absl::Status RestoreBackup(const RestoreCommand& command) {
  const base::SystemClock clock;
  SEALIFT_ASSIGN_OR_RETURN(const Restored restored,
                           Restore(
                               command.from, command.state_dir, command.joined_since,
                               [&] { return KnownPassphrase(command.passphrase_file); }, clock));
  fmt::print(
      "Restored into {}, as it was at {}, with these hosts: {}.\n"
      "Has another host joined since? Remove the folder and restore again with --joined-since.\n"
      "Hosts, users and certificates that were removed, revoked or added since: do that again. Who "
      "has renewed a context since needs a new one (sealift-controllerd admin-context).\n",
      command.state_dir, base::FormatUtc(base::FromUnixMillis(restored.made)),
      restored.hosts.empty() ? "none" : fmt::format("{}", fmt::join(restored.hosts, ", ")));
  if (restored.key == CaKey::kLeftOut) {
    fmt::print(
        "The backup is without the CA's key: put it at {} (PEM, mode 0600, owned by the "
        "controller's user).\n",
        StateFiles(command.state_dir).ca_key);
  }
  fmt::print(
      "Next: start sealift-controllerd. It learns from the agents where the VMs are; no VM starts "
      "before every host has been heard, or is confirmed dead (sealift host list, sealift "
      "events).\n");
  return absl::OkStatus();
}

// Blocked before the first thread starts, so that they arrive at sigwait only.
sigset_t BlockEndingSignals() {
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  return ending;
}

absl::Status Run(const RunCommand& command, keys::RandomSource& random) {
  SEALIFT_RETURN_IF_ERROR(keys::ForbidDumping());
  rpc::RequireTls13();
  SEALIFT_ASSIGN_OR_RETURN(const Settings settings, SettingsOf(command));
  SEALIFT_RETURN_IF_ERROR(base::SetUpLog("sealift-controllerd", settings.log_level));
  SEALIFT_RETURN_IF_ERROR(keys::SetUpOpenssl(settings.provider));
  SEALIFT_RETURN_IF_ERROR(keys::SelfTest());
  const sigset_t ending = BlockEndingSignals();

  const base::SystemClock clock;
  SEALIFT_ASSIGN_OR_RETURN(const auto controller, Controller::Start(settings, clock, random));
  spdlog::info("serving operators at port {}, joining hosts at port {}", controller->port(),
               controller->enrolment_port());
  SEALIFT_RETURN_IF_ERROR(
      WriteReadyFile(command.ready_file, controller->port(), controller->enrolment_port()));
  sd_notify(0, "READY=1");

  int signal = 0;
  sigwait(&ending, &signal);
  spdlog::info("ending at signal {}", signal);
  sd_notify(0, "STOPPING=1");
  controller->Stop();
  return absl::OkStatus();
}

}  // namespace

int RunDaemon(int argc, char** argv, keys::RandomSource& random) {
  const auto command = ParseCommandLine(argc, argv);
  if (const int* exit_code = std::get_if<int>(&command)) return *exit_code;
  absl::Status status;
  if (const auto* init = std::get_if<InitCommand>(&command)) {
    status = Init(*init);
  } else if (const auto* admin = std::get_if<AdminContextCommand>(&command)) {
    status = NewAdminContext(*admin);
  } else if (const auto* backup = std::get_if<BackupCommand>(&command)) {
    status = MakeBackup(*backup);
  } else if (const auto* restore = std::get_if<RestoreCommand>(&command)) {
    status = RestoreBackup(*restore);
  } else {
    status = Run(std::get<RunCommand>(command), random);
  }
  if (status.ok()) return 0;
  fmt::print(stderr, "sealift-controllerd: {}\n", base::MessageOf(status));
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

}  // namespace sealift::controller
