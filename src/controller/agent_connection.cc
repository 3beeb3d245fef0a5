#include "controller/agent_connection.h"

#include <fmt/format.h>

#include "base/status.h"

namespace sealift::controller {
namespace {

// What gRPC says when our own deadline ran out, and not the one of a guest the agent was waiting
// for.
constexpr char kGrpcDeadlineText[] = "Deadline Exceeded";

}  // namespace

AgentConnection::AgentConnection(std::string host, const base::HostPort& address,
                                 const std::shared_ptr<grpc::ChannelCredentials>& credentials)
    : host_(std::move(host)),
      address_(address.ToString()),
      stub_(v1::AgentService::NewStub(rpc::MakeChannel(address, credentials))) {}

absl::Status AgentConnection::WatchMigration(
    const std::string& id, std::chrono::milliseconds deadline,
    const std::function<Continue(const v1::AgentMigration&)>& each) {
  grpc::ClientContext context;
  const CallGroup::Membership membership(calls_, context);
  rpc::PrepareCall(context, deadline);
  v1::AgentMigrationRequest request;
  request.set_id(id);
  const auto stream = stub_->WatchMigration(&context, request);
  v1::AgentMigration view;
  while (stream->Read(&view)) {
    Curb(view);
    if (each(view) == Continue::kYes) continue;
    context.TryCancel();
    (void)stream->Finish();
    return absl::OkStatus();
  }
  return Explain(stream->Finish());
}

absl::Status AgentConnection::Explain(const grpc::Status& status) const {
  absl::Status answer = rpc::FromGrpc(status);
  const bool agents_own_words =
      absl::IsDeadlineExceeded(answer) && status.error_message() != kGrpcDeadlineText;
  if (!DidNotAnswer(answer) || agents_own_words) return answer;
  return absl::Status(answer.code(), fmt::format("the agent of host {} at {} does not answer: {}",
                                                 host_, address_, base::MessageOf(answer)));
}

bool DidNotAnswer(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status);
}

}  // namespace sealift::controller
