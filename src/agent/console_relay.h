// The serial console of a VM, relayed over a call.
#pragma once

#include <string>

#include "base/unique_fd.h"
#include "sealift/v1/agent.grpc.pb.h"

namespace sealift::agent {

// RelayConsole passes bytes both ways until the call or the console ends. `first_input` is sent
// first.
void RelayConsole(base::UniqueFd console, const std::string& first_input,
                  grpc::ServerContext& context,
                  grpc::ServerReaderWriter<v1::AgentConsoleOutput, v1::AgentConsoleInput>& stream);

}  // namespace sealift::agent
