// The controller as a client sees it: one channel, calls with a deadline, errors with a remedy.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/status.h"
#include "cli/context.h"
#include "cli/output.h"
#include "pki/identity.h"
#include "rpc/channel.h"
#include "sealift/v1/controller.grpc.pb.h"

namespace sealift::cli {

// Settings that every verb knows, from flags and the environment.
struct Settings {
  std::string context;     // path of the context file; empty: search
  std::string controller;  // host:port in place of the one in the context file
  std::string format = "table";
  unsigned timeout_s = 60;  // longest wait for one answer
};

// Controller of one command. Its methods may be called from several threads.
class Controller {
 public:
  // Connect reads the context file, connects, and renews the operator's certificate when it is due;
  // that it could not be renewed is only a warning. UNAVAILABLE when the controller does not
  // answer.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Controller>> Connect(
      const Settings& settings, Output& output, const base::Clock& clock);

  template <typename Request, typename Response, typename Stub>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  // Call makes one call, for example Call(&v1::VmService::Stub::Get, request). `extra` is added to
  // the deadline for calls that wait for a guest.
  template <typename Request, typename Response, typename Stub>
  [[nodiscard]] absl::StatusOr<Response> Call(Method<Request, Response, Stub> method,
                                              const Request& request,
                                              std::chrono::seconds extra = {}) {
    grpc::ClientContext context;
    rpc::PrepareCall(context, timeout_ + extra);
    Response response;
    SEALIFT_RETURN_IF_ERROR(Explain((stub<Stub>().*method)(&context, request, &response)));
    return response;
  }

  // stub is for streaming calls; prepare their context (rpc/channel.h) and have their status
  // explained.
  template <typename Stub>
  [[nodiscard]] Stub& stub() {
    return *std::get<std::unique_ptr<Stub>>(stubs_);
  }
  // Explain keeps the controller's own errors as they are; to one of the connection it adds what
  // could not be reached, and what to do.
  [[nodiscard]] absl::Status Explain(const grpc::Status& status) const;

  // AwaitConnection makes a lost connection again; it waits no longer than `limit`. Between calls
  // gRPC hardly looks at its sockets, so that a retry by calls alone may never get through.
  void AwaitConnection(std::chrono::milliseconds limit);

  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] const Context& context() const { return context_; }
  [[nodiscard]] std::chrono::seconds timeout() const { return timeout_; }

 private:
  Controller(const Settings& settings, std::string context_path, Context context);

  [[nodiscard]] absl::Status Open();
  [[nodiscard]] absl::Status WaitUntilConnected();
  [[nodiscard]] absl::Status RenewCertificate(const pki::Identity& identity);
  [[nodiscard]] absl::Status Unreachable(std::string_view cause) const;

  std::string context_path_;
  Context context_;
  std::string address_;
  std::chrono::seconds timeout_;
  std::shared_ptr<grpc::Channel> channel_;
  std::tuple<std::unique_ptr<v1::HostService::Stub>, std::unique_ptr<v1::VmService::Stub>,
             std::unique_ptr<v1::MigrationService::Stub>, std::unique_ptr<v1::EventService::Stub>,
             std::unique_ptr<v1::SessionService::Stub>, std::unique_ptr<v1::PolicyService::Stub>,
             std::unique_ptr<v1::UserService::Stub>>
      stubs_;
};

}  // namespace sealift::cli
