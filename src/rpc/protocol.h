// Numbers that clients, controller and agents agree on before they talk.
#pragma once

#include <cstdint>

namespace sealift::rpc {

// Default ports: the controller's two, and the agent's.
inline constexpr std::uint16_t kControllerPort = 7430;
inline constexpr std::uint16_t kEnrolmentPort = 7431;
inline constexpr std::uint16_t kAgentPort = 7432;

// Version of api/sealift/v1. Additions that the other side may ignore do not change it. Every
// client sends it in the metadata of every call (PrepareCall of rpc/channel.h); a call with a
// number outside of kOldestApiVersion to kApiVersion, or none, is refused with FAILED_PRECONDITION
// before anything else is looked at. SessionService.GetInfo tells the controller's. A new version
// goes on serving callers of the one before, so who is called is upgraded first (docs/upgrades.md).
inline constexpr std::uint32_t kApiVersion = 1;
inline constexpr std::uint32_t kOldestApiVersion = 1;
inline constexpr char kApiVersionKey[] = "sealift-api-version";

// Version of this program, sent along so that an error can name it; nothing is decided by it.
inline constexpr char kVersion[] = SEALIFT_VERSION;
inline constexpr char kVersionKey[] = "sealift-version";

}  // namespace sealift::rpc
