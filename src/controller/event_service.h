// EventService of the API.
#pragma once

#include <stop_token>

#include "controller/event_log.h"
#include "sealift/v1/controller.grpc.pb.h"
#include "store/store.h"

namespace sealift::controller {

// EventServiceImpl: store and log outlive it. Followers end when `stop` is requested.
class EventServiceImpl final : public v1::EventService::Service {
 public:
  EventServiceImpl(store::Store& store, EventLog& events, std::stop_token stop)
      : store_(store), events_(events), stop_(std::move(stop)) {}

  grpc::Status List(grpc::ServerContext* context, const v1::ListEventsRequest* request,
                    grpc::ServerWriter<v1::Event>* writer) override;

 private:
  // Send writes the events after number `after` and moves that on; CANCELLED when the client has
  // gone.
  [[nodiscard]] absl::Status Send(const v1::ListEventsRequest& request, std::size_t limit,
                                  std::int64_t& after, grpc::ServerWriter<v1::Event>& writer);
  [[nodiscard]] absl::Status Follow(const grpc::ServerContext& context,
                                    const v1::ListEventsRequest& request,
                                    grpc::ServerWriter<v1::Event>& writer);

  store::Store& store_;
  EventLog& events_;
  const std::stop_token stop_;
};

}  // namespace sealift::controller
