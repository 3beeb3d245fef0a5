// Calls to the agent of one host.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/socket.h"
#include "controller/agent_report.h"
#include "controller/call_group.h"
#include "rpc/channel.h"
#include "rpc/credentials.h"
#include "sealift/v1/agent.grpc.pb.h"

namespace sealift::controller {

inline constexpr std::chrono::seconds kCallDeadline{10};

// Continue tells a stream whether to go on.
enum class Continue { kYes, kNo };

// AgentConnection is one channel to one agent. It reconnects by itself. Every call is thread-safe
// and blocks; what is answered is curbed (agent_report.h). Errors: what the agent answered;
// UNAVAILABLE or DEADLINE_EXCEEDED, naming host and address, when it did not; CANCELLED after
// CancelAll.
class AgentConnection {
 public:
  using Stub = v1::AgentService::StubInterface;
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  AgentConnection(std::string host, const base::HostPort& address,
                  const std::shared_ptr<grpc::ChannelCredentials>& credentials);

  // Call makes one unary call.
  template <typename Request, typename Response>
  [[nodiscard]] absl::StatusOr<Response> Call(Method<Request, Response> method,
                                              const Request& request,
                                              std::chrono::milliseconds deadline = kCallDeadline) {
    grpc::ClientContext context;
    const CallGroup::Membership membership(calls_, context);
    rpc::PrepareCall(context, deadline);
    Response response;
    const absl::Status status = Explain(((*stub_).*method)(&context, request, &response));
    if (!status.ok()) return status;
    Curb(response);
    return response;
  }

  // WatchMigration hands every view of a migration to `each` until that says no, the stream ends or
  // `deadline` has passed. OK when `each` ended it or the agent did.
  [[nodiscard]] absl::Status WatchMigration(
      const std::string& id, std::chrono::milliseconds deadline,
      const std::function<Continue(const v1::AgentMigration&)>& each);

  // CancelAll ends every call under way and every later one.
  void CancelAll() { calls_.CancelAll(); }

  // Stub and call group for a stream that is run elsewhere (the console relay).
  [[nodiscard]] v1::AgentService::Stub& stub() { return *stub_; }
  [[nodiscard]] CallGroup& calls() { return calls_; }

  [[nodiscard]] const std::string& host() const { return host_; }

  // Explain turns the outcome of a call into a status that names this host.
  [[nodiscard]] absl::Status Explain(const grpc::Status& status) const;

 private:
  const std::string host_;
  const std::string address_;
  const std::unique_ptr<v1::AgentService::Stub> stub_;
  CallGroup calls_;
};

// DidNotAnswer says that a call may or may not have been carried out.
[[nodiscard]] bool DidNotAnswer(const absl::Status& status);

}  // namespace sealift::controller
