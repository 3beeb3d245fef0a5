// What a connection may cost, and how its two sides see that it lives. Private to this folder.
#pragma once

namespace sealift::rpc {

// A silent peer is given up after the sum of both.
inline constexpr int kKeepaliveMs = 5000;
inline constexpr int kKeepaliveTimeoutMs = 5000;
// The server takes pings at this pace; faster ones count as an attack. A little below kKeepaliveMs,
// for jitter.
inline constexpr int kFastestPingMs = 4000;

// ---- Of the server alone ----

// From the first byte to a TLS connection that speaks HTTP/2.
inline constexpr int kHandshakeTimeoutMs = 10'000;
// Of a connection without a call.
inline constexpr int kMaxIdleMs = 60'000;
// Where anybody may call: of a connection, and then of the call on it.
inline constexpr int kMaxStrangersStayMs = 10'000;
inline constexpr int kMaxStrangersRequestBytes = 64 << 10;

inline constexpr int kMaxRequestBytes = 4 << 20;
inline constexpr int kMaxResponseBytes = 64 << 20;

}  // namespace sealift::rpc
