#include "agent/daemon.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>
#include <variant>

#include "agent/agent_service.h"
#include "agent/capabilities.h"
#include "agent/config.h"
#include "agent/host_identity.h"
#include "agent/inventory.h"
#include "agent/migration_keeper.h"
#include "agent/options.h"
#include "agent/vm_keeper.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status.h"
#include "keys/openssl_setup.h"
#include "keys/secret_bytes.h"
#include "keys/self_test.h"
#include "qemu/qemu_hypervisor.h"
#include "rpc/protocol.h"
#include "rpc/server.h"

namespace sealift::agent {
namespace {

// How long an agent that ends waits for its migrations: a switch-over, 3 s, and its roll-back.
constexpr std::chrono::seconds kLeaveLimit{5};
constexpr std::chrono::seconds kLetGoOnEvery{1};

// Every thread inherits the blocked signals, so that only WaitForSignal takes them.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  static_cast<void>(signal(SIGPIPE, SIG_IGN));
  return signals;
}

absl::Status Run(const RunCommand& command, StepHook on_step) {
  const Config& config = command.config;
  const sigset_t signals = BlockSignals();
  SEALIFT_RETURN_IF_ERROR(base::SetUpLog("sealift-agentd", config.log_level));
  SEALIFT_RETURN_IF_ERROR(keys::ForbidDumping());
  // Movers inherit it: their keys are locked memory.
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);
  SEALIFT_RETURN_IF_ERROR(keys::SetUpOpenssl(config.crypto.provider));
  SEALIFT_RETURN_IF_ERROR(keys::SelfTest());

  const base::SystemClock clock;
  SEALIFT_ASSIGN_OR_RETURN(const auto identity, HostIdentity::Load(config.state_dir, clock));
  SEALIFT_ASSIGN_OR_RETURN(const std::string boot_id, ReadBootId());
  SEALIFT_ASSIGN_OR_RETURN(const MigrationSettings settings,
                           MakeMigrationSettings(config, identity->certificate().identity));
  SEALIFT_ASSIGN_OR_RETURN(const auto hypervisor,
                           qemu::QemuHypervisor::Create({.run_dir = config.run_dir + "/vms",
                                                         .qemu_binary = config.qemu_binary,
                                                         .user = config.qemu_user}));
  SEALIFT_ASSIGN_OR_RETURN(const v1::HostCapabilities capabilities,
                           ReportCapabilities(hypervisor->capabilities(), config.crypto));
  const Inventory inventory(config.state_dir + "/vms");
  const MigrationLog log(config.state_dir + "/migrations");
  VmKeeper vms(*hypervisor, inventory, boot_id);
  SEALIFT_RETURN_IF_ERROR(vms.Recover());
  MigrationKeeper migrations(settings, {*hypervisor, vms, log, clock, std::move(on_step)});
  SEALIFT_RETURN_IF_ERROR(migrations.Recover());

  AgentService service({*hypervisor, vms, migrations, *identity, capabilities, boot_id});
  SEALIFT_ASSIGN_OR_RETURN(const base::HostPort address,
                           base::ParseHostPort(config.listen, rpc::kAgentPort));
  const std::string domain = identity->certificate().identity.trust_domain;
  SEALIFT_ASSIGN_OR_RETURN(
      const auto server,
      rpc::Server::Start({.address = address,
                          .credentials = rpc::MakeServerCredentials(identity->files(), domain,
                                                                    {pki::Role::kController}),
                          .services = {&service}}));
  SEALIFT_RETURN_IF_ERROR(WriteReadyFile(command.ready_file, server->port()));
  spdlog::info("host {} serves on {} port {}", identity->certificate().identity.name, address.host,
               server->port());
  sd_notify(0, "READY=1");

  // It ends with the process.
  std::thread([&] {
    for (;;) {
      clock.Pause(kLetGoOnEvery);
      vms.LetGoOn();
    }
  }).detach();

  int signal_number = 0;
  sigwait(&signals, &signal_number);
  sd_notify(0, "STOPPING=1");
  spdlog::info("ending; VMs run on");
  server->Shutdown(std::chrono::seconds(1));
  migrations.Leave(kLeaveLimit);
  // VMs outlive us, and the threads that watch over them have no other end: the next agent takes up
  // from the records.
  static_cast<void>(std::fflush(nullptr));
  _exit(EXIT_SUCCESS);
}

absl::Status RunJoin(const JoinCommand& command) {
  SEALIFT_ASSIGN_OR_RETURN(const pki::JoinToken token, pki::DecodeJoinToken(command.token));
  SEALIFT_RETURN_IF_ERROR(Join(command.state_dir, command.controller, token));
  fmt::print("host {} has joined; start it with 'systemctl enable --now sealift-agentd'\n",
             token.host);
  return absl::OkStatus();
}

}  // namespace

int RunDaemon(int argc, char** argv, StepHook on_step) {
  rpc::RequireTls13();
  const auto parsed = ParseCommandLine(argc, argv);
  if (const int* code = std::get_if<int>(&parsed)) return *code;
  const auto* join = std::get_if<JoinCommand>(&parsed);
  const absl::Status status =
      join != nullptr ? RunJoin(*join) : Run(std::get<RunCommand>(parsed), std::move(on_step));
  if (status.ok()) return EXIT_SUCCESS;
  fmt::print(stderr, "sealift-agentd: {}\n", base::MessageOf(status));
  return EXIT_FAILURE;
}

}  // namespace sealift::agent
