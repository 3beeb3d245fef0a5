// What agents say, cut to what the controller keeps, compares and shows: whoever has taken over a
// host says what he likes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sealift/v1/agent.pb.h"

namespace sealift::controller {

inline constexpr std::size_t kMaxReportText = 1000;  // bytes
inline constexpr int kMaxReportItems = 4096;         // of one list
// What a double holds exactly: enough for bytes and milliseconds, and sums of them do not overflow.
inline constexpr std::uint64_t kMaxReportNumber = std::uint64_t{1} << 53;
inline constexpr std::int64_t kMaxReportTime = 9'000'000'000'000;  // milliseconds: the year 2255

// Curb cuts texts to one line of kMaxReportText bytes, lists, numbers and times to their limits,
// and makes an enum that this version does not know "not said". Bytes that are too long become
// none.
void Curb(v1::AgentStatus& status);
void Curb(v1::AgentMigration& migration);
void Curb(v1::PrepareDestinationResponse& response);
void Curb(v1::AgentVmRecord& record);
// Of other answers nothing is kept or shown.
inline void Curb(google::protobuf::Message& /*other*/) {}

}  // namespace sealift::controller
