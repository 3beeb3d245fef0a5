// sealift vm console NAME
#include <fmt/format.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/console_pump.h"
#include "cli/terminal.h"
#include "cli/vm.h"

namespace sealift::cli {
namespace {

struct Arguments {
  std::string name;
  double linger_s = 2;
};

v1::ConsoleInput Input(std::string_view data) {
  v1::ConsoleInput input;
  input.set_data(data.data(), data.size());
  return input;
}

ConsoleStream StreamOf(grpc::ClientReaderWriter<v1::ConsoleInput, v1::ConsoleOutput>& call,
                       grpc::ClientContext& context) {
  return {[&call](std::string& data) {
            v1::ConsoleOutput output;
            if (!call.Read(&output)) return false;
            data = std::move(*output.mutable_data());
            return true;
          },
          [&call](std::string_view data) { return call.Write(Input(data)); },
          [&call, &context] {
            call.WritesDone();
            context.TryCancel();
          }};
}

// Interact runs the console with the terminal in raw mode, which is undone on every way out: also
// by the thread that handles signals, before anything else.
ConsoleEnd Interact(Session& session, const Arguments& arguments, const ConsoleStream& stream) {
  const base::UniqueFd leave(eventfd(0, EFD_CLOEXEC));
  SEALIFT_CHECK(leave.valid());
  ::signal(SIGPIPE, SIG_IGN);  // a closed stdout must end the copying, not the process in raw mode
  RawMode raw(STDIN_FILENO);
  const Interrupts::Handling handling(session.interrupts(), [&] {
    raw.Restore();
    eventfd_write(leave.get(), 1);
  });
  const std::chrono::milliseconds linger(static_cast<long>(arguments.linger_s * 1000));
  return PumpConsole({STDIN_FILENO, STDOUT_FILENO, leave.get(), linger}, stream);
}

absl::StatusOr<ExitCode> Result(ConsoleEnd end, const absl::Status& status) {
  switch (end) {
    case ConsoleEnd::kServer:
      if (!status.ok()) return status;
      return ExitCode::kDone;
    case ConsoleEnd::kOutputFailed:
      return absl::UnknownError("the console's output could not be written to stdout");
    case ConsoleEnd::kLeave:
      return ExitCode::kInterrupted;
    case ConsoleEnd::kEscape:
    case ConsoleEnd::kIdle:
      break;
  }
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> OpenConsole(Session& session, const Arguments& arguments) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  grpc::ClientContext context;
  rpc::PrepareStream(context);
  const auto call = controller->stub<v1::VmService::Stub>().Console(&context);
  v1::ConsoleInput first;
  first.set_name(arguments.name);
  call->Write(first);
  const bool person = isatty(STDIN_FILENO) != 0;
  if (person) {
    session.output().Note(fmt::format("console of {}: leave it with Ctrl-]", arguments.name));
  }
  const ConsoleEnd end = Interact(session, arguments, StreamOf(*call, context));
  if (person) session.output().Note("");
  return Result(end, controller->Explain(call->Finish()));
}

}  // namespace

void AddVmConsoleVerb(const Noun& vm, Action& chosen) {
  auto [verb, arguments] = AddVerb(vm, chosen, "console",
                                   "Connect to the serial console; Ctrl-] leaves it", OpenConsole);
  AddVmName(verb, arguments.name);
  verb.Real("--linger", "SECONDS", {0, 86400}, arguments.linger_s,
            "When the input is not a terminal: leave after its end once the guest has been silent "
            "for this long (default: 2; 0: stay until the guest ends it)");
}

}  // namespace sealift::cli
