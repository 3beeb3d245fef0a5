// Numbers that the two sides of a connection must agree on. Private to this folder.
#pragma once

namespace sealift::rpc {

// A silent peer is given up after the sum of both.
inline constexpr int kKeepaliveMs = 5000;
inline constexpr int kKeepaliveTimeoutMs = 5000;
// The server takes pings at this pace; faster ones count as an attack. A little below kKeepaliveMs,
// for jitter.
inline constexpr int kFastestPingMs = 4000;

inline constexpr int kMaxRequestBytes = 4 << 20;
inline constexpr int kMaxResponseBytes = 64 << 20;

}  // namespace sealift::rpc
