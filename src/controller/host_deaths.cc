#include "controller/host_deaths.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>

#include "base/log.h"
#include "base/process.h"
#include "base/socket.h"
#include "base/status.h"
#include "controller/lookup.h"
#include "rpc/protocol.h"

namespace sealift::controller {
namespace {

constexpr std::chrono::seconds kKillLimit{5};
constexpr std::chrono::seconds kProbeLimit{2};

// The kernel takes them, however stuck the agent is.
bool TakesConnections(const store::HostRow& host) {
  const auto address = base::ParseHostPort(host.address, rpc::kAgentPort);
  return address.ok() && base::ConnectTcp(*address, kProbeLimit).ok();
}

// The command is the administrator's own program: it runs as we do.
absl::Status RunFenceCommand(const Fencing& fencing, const store::HostRow& host) {
  const base::UniqueFd output(memfd_create("fence", MFD_CLOEXEC));
  if (!output.valid()) return base::ErrnoStatus("memory for the fence command's output", errno);
  base::SpawnRequest request;
  request.binary = fencing.command.front();
  request.arguments.assign(fencing.command.begin() + 1, fencing.command.end());
  request.arguments.insert(request.arguments.end(), {host.name, host.address});
  request.user = {.name = "", .uid = getuid(), .gid = getgid(), .groups = {}};
  request.log_fd = output.get();
  SEALIFT_ASSIGN_OR_RETURN(
      const base::Process process,
      base::Process::Spawn(request, [](const base::ProcessId&) { return absl::OkStatus(); }));
  const bool ended = process.WaitGone(fencing.timeout);
  if (!ended) {
    SEALIFT_RETURN_IF_ERROR(process.Send(SIGKILL));
    static_cast<void>(process.WaitGone(kKillLimit));
  }
  const int code = process.Reap().value_or(-1);
  if (ended && code == 0) return absl::OkStatus();
  return absl::AbortedError(
      fmt::format("the fence command {} for host {} {}: {}", request.binary, host.name,
                  ended ? fmt::format("failed with {}", code)
                        : fmt::format("did not end within {} s", fencing.timeout.count()),
                  base::LastLines(output.get())));
}

}  // namespace

HostDeaths::HostDeaths(store::Store& store, HostRows& rows, AgentDirectory& agents,
                       EventLog& events, const base::Clock& clock, Fencing fencing)
    : store_(store),
      rows_(rows),
      agents_(agents),
      events_(events),
      clock_(clock),
      fencing_(std::move(fencing)) {}

absl::Status HostDeaths::Confirm(const std::string& host, const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, FindHost(store_, host));
  const HostView view = agents_.Refresh(host);
  if (view.reach == HostReach::kReady) {
    return absl::FailedPreconditionError(fmt::format(
        "host {} is not dead, its agent answers: move its VMs away with sealift host drain {}",
        host, host));
  }
  if (row.dead_since != 0) return absl::OkStatus();
  if (TakesConnections(row)) {
    return absl::FailedPreconditionError(fmt::format(
        "host {} is not dead: its agent does not answer ({}), but {} takes connections, so its VMs "
        "may run; restart sealift-agentd there, or switch the host off first (sealift host fence "
        "{})",
        host, view.reason, row.address, host));
  }
  return Take(host, actor, "an operator says so");
}

absl::Status HostDeaths::Fence(const std::string& host, const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow row, FindHost(store_, host));
  if (fencing_.command.empty()) {
    return absl::FailedPreconditionError(fmt::format(
        "there is no fence command: set fence.command in the controller's file, or make sure "
        "yourself that host {} is down and say sealift host confirm-dead {}",
        host, host));
  }
  events_.AddWarning("host.fencing", "host/" + host, actor, "the fence command is run");
  absl::Status fenced = RunFenceCommand(fencing_, row);
  if (!fenced.ok()) {
    events_.AddWarning("host.fence_failed", "host/" + host, actor, base::MessageOf(fenced));
    return fenced;
  }
  return Take(host, actor, "the fence command has succeeded");
}

absl::Status HostDeaths::Take(const std::string& host, const std::string& actor,
                              const std::string& why) {
  // What it answered before says nothing about it now (OnAnswer).
  agents_.DeclareSilent(host, fmt::format("it is taken for dead: {}", why));
  const std::int64_t now = base::UnixMillis(clock_.Now());
  SEALIFT_RETURN_IF_ERROR(rows_.Update(host, [&](store::HostRow& row) {
    row.dead_since = now;
    row.written_off = true;
  }));
  events_.AddWarning(
      "host.confirmed_dead", "host/" + host, actor,
      fmt::format("{}: its VMs are lost there and may be started on other hosts", why));
  return absl::OkStatus();
}

void HostDeaths::OnAnswer(const std::string& host) {
  const absl::StatusOr<store::HostRow> row = store_.GetHost(host);
  if (!row.ok() || row->dead_since == 0) return;
  const absl::Status stored = rows_.Update(host, [&](store::HostRow& alive) {
    if (agents_.View(host).reach == HostReach::kReady) alive.dead_since = 0;
  });
  if (!stored.ok()) spdlog::error("note that host {} is alive: {}", host, base::MessageOf(stored));
}

void HostDeaths::OnCompared(const std::string& host, const absl::Status& compared) {
  const absl::StatusOr<store::HostRow> row = store_.GetHost(host);
  // One that was taken for dead since it answered has not been compared as such.
  if (!row.ok() || !row->written_off || row->dead_since != 0) return;
  absl::Status outcome = compared;
  if (outcome.ok()) {
    outcome = rows_.Update(
        host, [](store::HostRow& settled) { settled.written_off = settled.dead_since != 0; });
  }
  if (!outcome.ok()) {
    // Asked again with its next report.
    spdlog::error("host {} was confirmed dead and is back: {}", host, base::MessageOf(outcome));
    return;
  }
  events_.Add("host.alive", "host/" + host, kControllerActor,
              "it was confirmed dead, answers again, and has nothing left that is another's");
}

}  // namespace sealift::controller
