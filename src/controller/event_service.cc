#include "controller/event_service.h"

#include "base/status.h"
#include "controller/convert.h"
#include "controller/edge.h"

namespace sealift::controller {
namespace {

constexpr std::size_t kDefaultListed = 1000;
// A follower is woken at every event, so this many never come between two looks.
constexpr std::size_t kAtOnce = 100'000;
// How soon a follower that has gone away is noticed while nothing happens.
constexpr std::chrono::seconds kLookForClient{1};

}  // namespace

grpc::Status EventServiceImpl::List(grpc::ServerContext* context,
                                    const v1::ListEventsRequest* request,
                                    grpc::ServerWriter<v1::Event>* writer) {
  return Answer(store_, *context, "events", policy::Right::kRead,
                [&](const Caller&) { return Follow(*context, *request, *writer); });
}

absl::Status EventServiceImpl::Send(const v1::ListEventsRequest& request, std::size_t limit,
                                    std::int64_t& after, grpc::ServerWriter<v1::Event>& writer) {
  SEALIFT_ASSIGN_OR_RETURN(const auto rows, store_.ListEvents(after, limit, request.subject()));
  for (const store::EventRow& row : rows) {
    if (!writer.Write(ToProto(row))) return absl::CancelledError("the client has gone");
    after = row.number;
  }
  return absl::OkStatus();
}

absl::Status EventServiceImpl::Follow(const grpc::ServerContext& context,
                                      const v1::ListEventsRequest& request,
                                      grpc::ServerWriter<v1::Event>& writer) {
  std::int64_t after = request.after_number();
  std::uint64_t seen = events_.additions();
  SEALIFT_RETURN_IF_ERROR(
      Send(request, request.limit() == 0 ? kDefaultListed : request.limit(), after, writer));
  while (request.follow() && !context.IsCancelled()) {
    const std::uint64_t now = events_.WaitForNews(seen, kLookForClient, stop_);
    if (stop_.stop_requested()) return absl::UnavailableError("the controller is being stopped");
    if (now == seen) continue;
    seen = now;
    SEALIFT_RETURN_IF_ERROR(Send(request, kAtOnce, after, writer));
  }
  return absl::OkStatus();
}

}  // namespace sealift::controller
