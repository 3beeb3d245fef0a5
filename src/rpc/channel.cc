#include "rpc/channel.h"

#include <string>

#include "rpc/limits.h"
#include "rpc/protocol.h"

namespace sealift::rpc {
namespace {

constexpr int kFirstReconnectMs = 200;
constexpr int kLastReconnectMs = 2000;
constexpr int kConnectTimeoutMs = 5000;

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(
    const base::HostPort& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // no limit
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLastReconnectMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);  // sic: of one attempt
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(kMaxResponseBytes);
  arguments.SetMaxSendMessageSize(kMaxRequestBytes);
  return grpc::CreateCustomChannel("dns:///" + address.ToString(), credentials, arguments);
}

void PrepareCall(grpc::ClientContext& context, std::chrono::milliseconds timeout) {
  PrepareStream(context);
  context.set_deadline(std::chrono::system_clock::now() + timeout);
}

void PrepareStream(grpc::ClientContext& context) {
  context.AddMetadata(kApiVersionKey, std::to_string(kApiVersion));
  context.AddMetadata(kVersionKey, kVersion);
}

}  // namespace sealift::rpc
