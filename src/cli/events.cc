// sealift events
#include <fmt/format.h>

#include <thread>

#include "cli/command.h"
#include "cli/format.h"
#include "cli/lost_stream.h"

namespace sealift::cli {
namespace {

using EventStub = v1::EventService::Stub;
using Take = std::function<void(const v1::Event&)>;

std::string Row(std::string_view time, std::string_view type, std::string_view subject,
                std::string_view text) {
  return fmt::format("{:<20}  {:<20}  {:<20}  {}", time, type, subject, text);
}

std::string Row(const v1::Event& event) {
  return Row(FormatShortTime(event.time_ms()), event.type(), event.subject(), event.text());
}

// Read hands every event of one call to `take`.
absl::Status Read(Controller& controller, grpc::ClientContext& context,
                  const v1::ListEventsRequest& request, const Take& take) {
  const auto events = controller.stub<EventStub>().List(&context, request);
  v1::Event event;
  while (events->Read(&event)) take(event);
  return controller.Explain(events->Finish());
}

absl::StatusOr<ExitCode> Follow(Session& session, Controller& controller,
                                v1::ListEventsRequest request) {
  LostStream lost(controller.timeout(), session.clock(), session.output());
  while (true) {
    grpc::ClientContext context;
    rpc::PrepareStream(context);
    const absl::Status status = Read(controller, context, request, [&](const v1::Event& event) {
      lost.Received();
      session.output().PrintItem(ToJson(event), Row(event));
      request.set_after_number(event.number());
    });
    SEALIFT_RETURN_IF_ERROR(lost.Judge(status));
    const auto pause = lost.Pause();
    std::this_thread::sleep_for(pause);
    controller.AwaitConnection(pause);
  }
}

absl::StatusOr<ExitCode> List(Session& session, Controller& controller,
                              const v1::ListEventsRequest& request) {
  grpc::ClientContext context;
  rpc::PrepareCall(context, controller.timeout());
  Json data = Json::array();
  Table table({"TIME", "TYPE", "SUBJECT", "ACTOR", "TEXT"});
  SEALIFT_RETURN_IF_ERROR(Read(controller, context, request, [&](const v1::Event& event) {
    data.push_back(ToJson(event));
    table.AddRow({FormatShortTime(event.time_ms()), event.type(), event.subject(), event.actor(),
                  event.text()});
  }));
  session.output().Print(data, table);
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ShowEvents(Session& session, const v1::ListEventsRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  return request.follow() ? Follow(session, *controller, request)
                          : List(session, *controller, request);
}

}  // namespace

void AddEventsCommand(const Noun& root, Action& chosen) {
  auto [verb, request] = AddVerb(root, chosen, "events", "What happened, oldest first", ShowEvents);
  verb.Flag(
      "-f,--follow", [&to = request] { to.set_follow(true); },
      "Go on with new events until Ctrl-C; with -o json one object per line");
  verb.Text("--subject", "SUBJECT", *request.mutable_subject(),
            "Only events about this, such as vm/web1 or host/a");
  verb.Whole(
      "--after", "NUMBER", kAnyNumber,
      [&to = request](std::uint64_t n) { to.set_after_number(static_cast<std::int64_t>(n)); },
      "Only events with a higher number");
  verb.Whole(
      "--limit", "N", kAnyCount,
      [&to = request](std::uint64_t n) { to.set_limit(static_cast<std::uint32_t>(n)); },
      "The newest of them, at most so many (default: 1000)");
}

}  // namespace sealift::cli
