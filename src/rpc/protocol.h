// Numbers that clients, controller and agents agree on before they talk.
#pragma once

#include <cstdint>

namespace sealift::rpc {

// Default ports: the controller's two, and the agent's.
inline constexpr std::uint16_t kControllerPort = 7430;
inline constexpr std::uint16_t kEnrolmentPort = 7431;
inline constexpr std::uint16_t kAgentPort = 7432;

// Version of api/sealift/v1. A client of the controller sends it in the metadata of every call; a
// call with another number is refused with FAILED_PRECONDITION before anything else is looked at.
// SessionService.GetInfo tells the controller's.
inline constexpr std::uint32_t kApiVersion = 1;
inline constexpr char kApiVersionKey[] = "sealift-api-version";

}  // namespace sealift::rpc
