// The client's side of a connection.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>

#include "base/socket.h"

namespace sealift::rpc {

// MakeChannel connects when first used and again after a failure, at least every two seconds. A
// peer that has gone silent is noticed within about ten seconds, also in the middle of a call that
// waits (UNAVAILABLE). Proxies of the environment are not used.
[[nodiscard]] std::shared_ptr<grpc::Channel> MakeChannel(
    const base::HostPort& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials);

// PrepareCall writes our version into a call's metadata, and its deadline. PrepareStream: without
// one, for calls that last.
void PrepareCall(grpc::ClientContext& context, std::chrono::milliseconds timeout);
void PrepareStream(grpc::ClientContext& context);

}  // namespace sealift::rpc
