// Carries the serial console of a VM between an operator and the agent of its host.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "controller/agent_connection.h"
#include "sealift/v1/controller.pb.h"

namespace sealift::controller {

// FindConsole gives the agent of the VM that the operator's first message names. An error is the
// answer to the operator.
using FindConsole =
    std::function<absl::StatusOr<std::shared_ptr<AgentConnection>>(const std::string& vm)>;

// RelayConsole starts a relay. It belongs to gRPC and itself: it ends, and is freed, when either
// side has ended.
[[nodiscard]] grpc::ServerBidiReactor<v1::ConsoleInput, v1::ConsoleOutput>* RelayConsole(
    FindConsole find);

}  // namespace sealift::controller
