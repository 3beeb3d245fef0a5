#include "rpc/server.h"

#include <fmt/format.h>
#include <grpc/support/log.h>
#include <grpcpp/resource_quota.h>
#include <sys/resource.h>

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "rpc/connection_gate.h"
#include "rpc/credentials.h"
#include "rpc/limits.h"

namespace sealift::rpc {
namespace {

constexpr int kCompletionQueues = 2;

void SetLimits(grpc::ServerBuilder& builder, const ServerOptions& options) {
  builder.SetMaxSendMessageSize(kMaxResponseBytes);
  // One for each processor, gRPC's default, would want more threads than there may be.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, kCompletionQueues);
  builder.SetResourceQuota(grpc::ResourceQuota("sealift").SetMaxThreads(options.max_threads));
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxIdleMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kFastestPingMs);
  if (options.callers == Callers::kKnown) {
    builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_threads);
    return;
  }
  builder.SetMaxReceiveMessageSize(kMaxStrangersRequestBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, kMaxStrangersStayMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, kMaxStrangersStayMs);
}

// Tells the gate of a call that was admitted.
class AdmittedCall final : public grpc::experimental::Interceptor {
 public:
  AdmittedCall(ConnectionGate& gate, grpc::experimental::ServerRpcInfo* call)
      : gate_(gate), call_(call) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Point = grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(Point::POST_RECV_INITIAL_METADATA)) {
      gate_.MakeKnown(call_->server_context()->peer());
    }
    methods->Proceed();
  }

 private:
  ConnectionGate& gate_;
  grpc::experimental::ServerRpcInfo* const call_;
};

class AdmittedCalls final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit AdmittedCalls(ConnectionGate& gate) : gate_(gate) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* call) override {
    return new AdmittedCall(gate_, call);  // gRPC's
  }

 private:
  ConnectionGate& gate_;
};

void ReportAdmittedCalls(grpc::ServerBuilder& builder, ConnectionGate& gate) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<AdmittedCalls>(gate));
  builder.experimental().SetInterceptorCreators(std::move(factories));
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// gRPC calls every stray connection and every handshake an error.
void LogGrpc(gpr_log_func_args* message) { spdlog::debug("grpc: {}", message->message); }

}  // namespace

Server::Server(std::unique_ptr<ConnectionGate> gate, std::unique_ptr<grpc::Server> server,
               std::uint16_t port)
    : gate_(std::move(gate)), server_(std::move(server)), port_(port) {}

Server::~Server() { Shutdown(std::chrono::milliseconds(0)); }

void Server::Shutdown(std::chrono::milliseconds grace) {
  gate_->Close();
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  gpr_set_log_function(LogGrpc);
  RaiseDescriptorLimit();
  const std::string what = fmt::format("serve at {}", options.address.ToString());
  absl::StatusOr<base::Listeners> listeners = base::ListenEverywhere(options.address);
  if (!listeners.ok()) return base::Annotate(listeners.status(), what);
  auto gate =
      std::make_unique<ConnectionGate>(std::move(listeners->sockets), options.max_connections);
  grpc::ServerBuilder builder;
  SetLimits(builder, options);
  if (options.callers == Callers::kKnown) ReportAdmittedCalls(builder, *gate);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  using Kind = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  auto acceptor =
      builder.experimental().AddExternalConnectionAcceptor(Kind::FROM_FD, options.credentials);
  std::unique_ptr<grpc::Server> started = builder.BuildAndStart();
  if (!started) return absl::UnavailableError(what + ": gRPC could not");
  gate->Open(std::move(acceptor));
  std::unique_ptr<Server> server(new Server(std::move(gate), std::move(started), listeners->port));
  SEALIFT_RETURN_IF_ERROR(
      VerifyTls13Only(base::HostPort{options.address.host, server->port()}.ToString()));
  return server;
}

}  // namespace sealift::rpc
