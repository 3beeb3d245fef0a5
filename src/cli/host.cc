// sealift host add|list|show|set|remove; drain and undrain have a file of their own.
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/format.h"
#include "cli/host.h"

namespace sealift::cli {
namespace {

using HostStub = v1::HostService::Stub;

// The controller's own limit of the fence command is not longer.
constexpr std::chrono::hours kLongestFence{1};

Cell StateCell(const v1::Host& host) {
  const Tone tone = host.state() == v1::HOST_STATE_READY     ? Tone::kGood
                    : host.state() == v1::HOST_STATE_JOINING ? Tone::kWarning
                                                             : Tone::kBad;
  if (host.draining()) return {Word(host.state()) + ", draining", Tone::kWarning};
  return {Word(host.state()), tone};
}

std::string Encryption(const v1::Host& host) {
  if (host.can_encrypt()) return host.capabilities().aead_backend();
  return host.has_capabilities() ? "no" : "";
}

std::string Memory(const v1::HostCapabilities& capabilities) {
  if (capabilities.memory_bytes() == 0) return "";
  return fmt::format("{} of {} free", FormatBytes(capabilities.memory_available_bytes()),
                     FormatBytes(capabilities.memory_bytes()));
}

std::string WithReason(const std::string& what, const std::string& reason) {
  return reason.empty() ? what : fmt::format("{} ({})", what, reason);
}

Table ListTable(const v1::ListHostsResponse& response) {
  Table table(
      {"NAME", "ADDRESS", "GROUP", "STATE", "VMS", "MEMORY", "ACCELERATOR", "QEMU", "ENCRYPTION"});
  for (const v1::Host& host : response.hosts()) {
    const v1::HostCapabilities& capabilities = host.capabilities();
    table.AddRow({host.name(), host.address(), host.group(), StateCell(host),
                  std::to_string(host.vms()), Memory(capabilities), capabilities.accelerator(),
                  capabilities.qemu_version(), Encryption(host)});
  }
  return table;
}

std::string DirectEngine(const v1::HostCapabilities& capabilities) {
  if (capabilities.direct_engine()) return "yes";
  return WithReason("no", capabilities.direct_reason().empty() ? "its agent does not know it"
                                                               : capabilities.direct_reason());
}

void AddCapabilities(const v1::HostCapabilities& capabilities, Table& table) {
  table.Add("Agent", capabilities.agent_version());
  table.Add("Kernel", capabilities.kernel_version());
  table.Add("QEMU", capabilities.qemu_version());
  table.Add("CPUs", fmt::format("{} x {}", capabilities.cpus(), capabilities.cpu_model()));
  table.Add("Memory", Memory(capabilities));
  table.Add("Accelerator",
            WithReason(capabilities.accelerator(), capabilities.accelerator_reason()));
  table.Add("Secret memory", capabilities.secret_memory());
  table.Add("Direct engine", DirectEngine(capabilities));
  if (!capabilities.memory_advice().empty()) {
    table.Add("Advice", {capabilities.memory_advice(), Tone::kWarning});
  }
}

Table ShowTable(const v1::Host& host) {
  Table table;
  table.Add("Name", host.name());
  table.Add("Address", host.address());
  table.Add("Group", host.group());
  Cell state = StateCell(host);
  state.text = WithReason(state.text, host.state_reason());
  table.Add("State", state);
  table.Add("Last seen", FormatShortTime(host.last_seen_ms()));
  table.Add("Certificate until", FormatShortTime(host.certificate_not_after_ms()));
  table.Add("VMs", std::to_string(host.vms()));
  table.Add("Encryption", WithReason(Encryption(host), host.capabilities().aead_reason()));
  if (host.has_capabilities()) AddCapabilities(host.capabilities(), table);
  return table;
}

absl::StatusOr<ExitCode> AddHost(Session& session, const v1::AddHostRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::AddHostResponse response,
                           controller->Call(&HostStub::Add, request));
  Output& output = session.output();
  output.Note(
      fmt::format("host {} can join until {}. Run this on it, as root; the token in it works once:",
                  request.name(), FormatShortTime(response.token_expires_ms())));
  if (output.format() == OutputFormat::kTable) {
    output.PrintText(response.join_command() + "\n");
  }
  output.PrintData(ToJson(response));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ListHosts(Session& session, const v1::ListHostsRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::ListHostsResponse response,
                           controller->Call(&HostStub::List, request));
  session.output().Print(ToJsonList(response.hosts()), ListTable(response));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ShowHost(Session& session, const v1::GetHostRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Host host, controller->Call(&HostStub::Get, request));
  session.output().Print(ToJson(host), ShowTable(host));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> RemoveHost(Session& session, const v1::RemoveHostRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_RETURN_IF_ERROR(controller->Call(&HostStub::Remove, request).status());
  session.output().Note(fmt::format("host {} is removed", request.name()));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> SetHost(Session& session, const v1::SetHostRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Host host, controller->Call(&HostStub::Set, request));
  session.output().Note(host.group().empty()
                            ? fmt::format("host {} is in no group", host.name())
                            : fmt::format("host {} is in group {}", host.name(), host.group()));
  session.output().PrintData(ToJson(host));
  return ExitCode::kDone;
}

ExitCode ReportDead(Output& output, const v1::Host& host) {
  output.Note(
      fmt::format("host {} is taken for dead: start its {} VMs elsewhere with sealift vm start "
                  "NAME --host HOST",
                  host.name(), host.vms()));
  output.PrintData(ToJson(host));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ConfirmDead(Session& session, const v1::ConfirmDeadHostRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Host host, controller->Call(&HostStub::ConfirmDead, request));
  return ReportDead(session.output(), host);
}

absl::StatusOr<ExitCode> FenceHost(Session& session, const v1::FenceHostRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Host host,
                           controller->Call(&HostStub::Fence, request, kLongestFence));
  return ReportDead(session.output(), host);
}

void AddAddVerb(const Noun& host, Action& chosen) {
  auto [verb, request] =
      AddVerb(host, chosen, "add", "Add a host and print the command that lets it join", AddHost);
  verb.Name("NAME", "NAME", *request.mutable_name(),
            "Name of the host: lower-case letters, digits and dashes");
  verb.Text("--address", "HOST[:PORT]", *request.mutable_address(),
            "Where its agent listens, as the controller reaches it", Need::kRequired);
  verb.Whole(
      "--token-lifetime", "SECONDS", kAnyCount,
      [&to = request](std::uint64_t n) { to.set_token_lifetime_s(static_cast<std::uint32_t>(n)); },
      "How long the token can be used (default: 3600)");
  verb.Flag(
      "--renew-token", [&to = request] { to.set_renew_token(true); },
      "The host exists and joins again: a fresh token; its old certificate is revoked");
}

}  // namespace

void AddHostCommands(const Noun& root, Action& chosen) {
  const Noun host = root.AddNoun("host", "Hosts that run virtual machines");
  AddAddVerb(host, chosen);
  AddVerb(host, chosen, "list", "List the hosts", ListHosts);
  auto [show, get] = AddVerb(host, chosen, "show", "Show one host", ShowHost);
  show.Name("NAME", kHostType, *get.mutable_name(), "Name of the host");
  auto [remove, gone] = AddVerb(host, chosen, "remove",
                                "Remove a host without VMs and revoke its certificate", RemoveHost);
  remove.Name("NAME", kHostType, *gone.mutable_name(), "Name of the host");
  auto [set, change] = AddVerb(host, chosen, "set", "Change a host", SetHost);
  set.Name("NAME", kHostType, *change.mutable_name(), "Name of the host");
  set.Text("--group", "GROUP", *change.mutable_group(),
           "Group, for floors and default modes; \"\" for none", Need::kRequired);
  AddHostDrainVerbs(host, chosen);
  auto [confirm, dead] =
      AddVerb(host, chosen, "confirm-dead",
              "Say that a host that does not answer is down for certain: its VMs "
              "may start elsewhere",
              ConfirmDead);
  confirm.Name("NAME", kHostType, *dead.mutable_name(), "Name of the host");
  auto [fence, fenced] = AddVerb(host, chosen, "fence",
                                 "Make certain that a host is down, with the controller's fence "
                                 "command: its VMs may start elsewhere",
                                 FenceHost);
  fence.Name("NAME", kHostType, *fenced.mutable_name(), "Name of the host");
}

}  // namespace sealift::cli
