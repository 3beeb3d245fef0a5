#include "rpc/server.h"

#include <fmt/format.h>
#include <grpc/support/log.h>
#include <grpcpp/resource_quota.h>

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "rpc/credentials.h"
#include "rpc/limits.h"

namespace sealift::rpc {
namespace {

constexpr int kHandshakeTimeoutMs = 10'000;

void SetLimits(grpc::ServerBuilder& builder, int max_threads) {
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.SetMaxSendMessageSize(kMaxResponseBytes);
  builder.SetResourceQuota(grpc::ResourceQuota("sealift").SetMaxThreads(max_threads));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a second daemon must fail to start
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kFastestPingMs);
}

// gRPC calls every stray connection and every handshake an error.
void LogGrpc(gpr_log_func_args* message) { spdlog::debug("grpc: {}", message->message); }

// gRPC does not say why it cannot listen; trying it ourselves does.
absl::Status WhyNotListening(const base::HostPort& address) {
  const absl::Status tried = base::ListenTcp(address.host, address.port, address.port).status();
  const std::string what = fmt::format("serve at {}", address.ToString());
  if (tried.ok()) return absl::UnavailableError(what + ": gRPC could not listen there");
  return base::Annotate(tried, what);
}

}  // namespace

Server::Server(std::unique_ptr<grpc::Server> server, std::uint16_t port)
    : server_(std::move(server)), port_(port) {}

Server::~Server() { Shutdown(std::chrono::milliseconds(0)); }

void Server::Shutdown(std::chrono::milliseconds grace) {
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  gpr_set_log_function(LogGrpc);
  grpc::ServerBuilder builder;
  SetLimits(builder, options.max_threads);
  int port = 0;
  builder.AddListeningPort(options.address.ToString(), options.credentials, &port);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> started = builder.BuildAndStart();
  if (!started || port == 0) return WhyNotListening(options.address);
  std::unique_ptr<Server> server(new Server(std::move(started), static_cast<std::uint16_t>(port)));
  SEALIFT_RETURN_IF_ERROR(
      VerifyTls13Only(base::HostPort{options.address.host, server->port()}.ToString()));
  return server;
}

}  // namespace sealift::rpc
