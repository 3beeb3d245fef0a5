// sealift vm list|show|start|stop|delete; create, set, migrate and console have files of their own.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>
#include <map>

#include "cli/command.h"
#include "cli/forecast_view.h"
#include "cli/format.h"
#include "cli/vm.h"

namespace sealift::cli {
namespace {

using VmStub = v1::VmService::Stub;

// What the controller waits for when the request names no time (StopVmRequest).
constexpr std::uint32_t kDefaultStopSeconds = 60;

Tone StateTone(v1::VmState state) {
  switch (state) {
    case v1::VM_STATE_RUNNING:
      return Tone::kGood;
    case v1::VM_STATE_CRASHED:
    case v1::VM_STATE_UNKNOWN:
      return Tone::kBad;
    case v1::VM_STATE_MIGRATING:
    case v1::VM_STATE_INCOMING:
    case v1::VM_STATE_PAUSED:
      return Tone::kWarning;
    default:
      return Tone::kPlain;
  }
}

// The mode in force, and whether its host has been told.
Cell ModeCell(const v1::Vm& vm) {
  const std::string mode = Word(vm.effective_encryption());
  return vm.encryption_pending() ? Cell(mode + " (pending)", Tone::kWarning) : Cell(mode);
}

std::string Labels(const v1::Vm& vm) {
  const std::map<std::string, std::string> sorted(vm.labels().begin(), vm.labels().end());
  std::string text;
  for (const auto& [key, value] : sorted) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", key, value);
  }
  return text;
}

std::string ModeReason(const v1::Vm& vm) {
  if (vm.encrypted()) return "an encrypted VM: cannot be changed";
  return vm.effective_reason();
}

Table ListTable(const v1::ListVmsResponse& response) {
  Table table({"NAME", "HOST", "STATE", "CPUS", "MEMORY", "ENCRYPTION", "LABELS", "MIGRATION"});
  for (const v1::Vm& vm : response.vms()) {
    table.AddRow({vm.name(), vm.host(), Cell(Word(vm.state()), StateTone(vm.state())),
                  std::to_string(vm.cpus()), FormatBytes(vm.memory_bytes()), ModeCell(vm),
                  Labels(vm), vm.migration_id()});
  }
  return table;
}

Table ShowTable(const v1::Vm& vm) {
  Table table;
  table.Add("Name", vm.name());
  table.Add("UUID", vm.uuid());
  table.Add("Host", vm.host());
  table.Add("State", {vm.state_reason().empty()
                          ? Word(vm.state())
                          : fmt::format("{} ({})", Word(vm.state()), vm.state_reason()),
                      StateTone(vm.state())});
  Cell mode = ModeCell(vm);
  if (!ModeReason(vm).empty()) mode.text += fmt::format(" ({})", ModeReason(vm));
  table.Add("Encryption", mode);
  table.Add("Labels", Labels(vm));
  table.Add("CPUs", fmt::format("{} x {}", vm.cpus(), vm.cpu_model()));
  table.Add("Memory", FormatBytes(vm.memory_bytes()));
  table.Add("Machine", vm.machine());
  table.Add("Autostart", vm.autostart() ? "yes" : "no");
  table.Add("Epoch", std::to_string(vm.epoch()));
  table.Add("Migration", vm.migration_id());
  table.Add("Created", FormatShortTime(vm.created_ms()));
  for (const v1::MoveForecast& move : vm.moves()) {
    Cell cell = OutcomeCell(move.outcome());
    cell.text += fmt::format(": {}", move.reason());
    table.Add(fmt::format("To {}", move.host()), cell);
  }
  return table;
}

absl::StatusOr<ExitCode> ListVms(Session& session, const v1::ListVmsRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::ListVmsResponse response,
                           controller->Call(&VmStub::List, request));
  session.output().Print(ToJsonList(response.vms()), ListTable(response));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ShowVm(Session& session, const v1::GetVmRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Vm vm, controller->Call(&VmStub::Get, request));
  session.output().Print(ToJson(vm), ShowTable(vm));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> StartVm(Session& session, const v1::StartVmRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Vm vm, controller->Call(&VmStub::Start, request));
  ReportVm(session.output(), vm);
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> StopVm(Session& session, const v1::StopVmRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  const std::uint32_t wait = request.timeout_s() == 0 ? kDefaultStopSeconds : request.timeout_s();
  SEALIFT_ASSIGN_OR_RETURN(const v1::Vm vm,
                           controller->Call(&VmStub::Stop, request, std::chrono::seconds(wait)));
  ReportVm(session.output(), vm);
  return ExitCode::kDone;
}

struct DeleteArguments {
  std::string name;
  bool yes = false;
};

// Confirmed asks a person; a program that could not answer is not asked.
bool Confirmed(Output& output, const DeleteArguments& arguments) {
  if (arguments.yes || isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0) return true;
  output.messages() << fmt::format("Delete VM {}? Its disks are kept. [y/N] ", arguments.name)
                    << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

absl::StatusOr<ExitCode> DeleteVm(Session& session, const DeleteArguments& arguments) {
  if (!Confirmed(session.output(), arguments)) {
    return absl::CancelledError(fmt::format("VM {} is not deleted", arguments.name));
  }
  v1::DeleteVmRequest request;
  request.set_name(arguments.name);
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_RETURN_IF_ERROR(controller->Call(&VmStub::Delete, request).status());
  session.output().Note(fmt::format("VM {} is deleted", request.name()));
  return ExitCode::kDone;
}

void AddStopVerb(const Noun& vm, Action& chosen) {
  auto [verb, request] =
      AddVerb(vm, chosen, "stop", "Press the power button and wait until the guest is off", StopVm);
  AddVmName(verb, *request.mutable_name());
  verb.Flag(
      "--force", [&to = request] { to.set_force(true); }, "End it at once, as pulling the plug");
  verb.Whole(
      "--timeout", "SECONDS", {1, 86400},
      [&to = request](std::uint64_t n) { to.set_timeout_s(static_cast<std::uint32_t>(n)); },
      "How long to wait for the guest (default: 60)");
}

void AddDeleteVerb(const Noun& vm, Action& chosen) {
  auto [verb, arguments] =
      AddVerb(vm, chosen, "delete", "Delete a stopped VM; its disks are kept", DeleteVm);
  AddVmName(verb, arguments.name);
  verb.Flag(
      "-y,--yes", [&to = arguments] { to.yes = true; }, "Do not ask");
}

}  // namespace

void ReportVm(Output& output, const v1::Vm& vm) {
  output.Note(vm.host().empty()
                  ? fmt::format("VM {} is {}", vm.name(), Word(vm.state()))
                  : fmt::format("VM {} is {} on {}", vm.name(), Word(vm.state()), vm.host()));
  output.PrintData(ToJson(vm));
}

void AddVmName(const Verb& verb, std::string& name) {
  verb.Name("NAME", kVmType, name, "Name of the VM");
}

void AddVmCommands(const Noun& root, Action& chosen) {
  const Noun vm = root.AddNoun("vm", "Virtual machines");
  AddVmCreateVerb(vm, chosen);
  auto [list, filter] = AddVerb(vm, chosen, "list", "List the VMs", ListVms);
  list.Text("--host", kHostType, *filter.mutable_host(), "Only those on this host");
  list.Text("--selector", "LABELS", *filter.mutable_selector(),
            "Only those with these labels: env=prod,tier!=db,backup,!old");
  auto [show, get] = AddVerb(vm, chosen, "show", "Show one VM", ShowVm);
  AddVmName(show, *get.mutable_name());
  auto [start, started] = AddVerb(vm, chosen, "start", "Start a stopped VM", StartVm);
  AddVmName(start, *started.mutable_name());
  start.Text("--host", kHostType, *started.mutable_host(),
             "Start it there: its own host is dead (see host confirm-dead)");
  start.Flag(
      "--runs-nowhere", [&to = started] { to.set_runs_nowhere(true); },
      "It runs nowhere for certain: no host was found to have it since the controller was "
      "restored");
  AddStopVerb(vm, chosen);
  AddVmSetVerb(vm, chosen);
  AddVmConsoleVerb(vm, chosen);
  AddDeleteVerb(vm, chosen);
  AddVmMigrateVerb(vm, chosen);
}

}  // namespace sealift::cli
