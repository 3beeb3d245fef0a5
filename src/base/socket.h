// Sockets, and descriptors passed over them.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/unique_fd.h"

namespace sealift::base {

// HostPort is an address as the user writes it: "192.0.2.1:7430", "[2001:db8::1]:7430" or
// "hypervisor-a:7430".
struct HostPort {
  std::string host;
  std::uint16_t port = 0;

  // ToString writes it back, with brackets around an IPv6 address.
  [[nodiscard]] std::string ToString() const;
};

// ParseHostPort reads "host", "host:port" or "[v6]:port"; without a port the default is taken.
[[nodiscard]] absl::StatusOr<HostPort> ParseHostPort(const std::string& text,
                                                     std::uint16_t default_port);

// ListenTcp listens on the first free port of first..last at `host` (both 0: any free port). The
// port taken is returned beside the descriptor. Close-on-exec, non-blocking.
[[nodiscard]] absl::StatusOr<std::pair<UniqueFd, std::uint16_t>> ListenTcp(const std::string& host,
                                                                           std::uint16_t first,
                                                                           std::uint16_t last);

// Listeners are the sockets of one port.
struct Listeners {
  std::vector<UniqueFd> sockets;
  std::uint16_t port = 0;
};

// ListenEverywhere listens at every address of this host that a name has (port 0: any free one); at
// the wildcard of either family, "0.0.0.0" or "::", for both. Close-on-exec, non-blocking.
[[nodiscard]] absl::StatusOr<Listeners> ListenEverywhere(const HostPort& address);

// ConnectTcp connects within `timeout`. Close-on-exec, blocking, TCP_NODELAY.
[[nodiscard]] absl::StatusOr<UniqueFd> ConnectTcp(const HostPort& address, Duration timeout);

// ListenUnix listens at `path` (at most 107 bytes), replacing a stale socket file, with file mode
// `mode`. `type` is SOCK_STREAM or SOCK_SEQPACKET.
[[nodiscard]] absl::StatusOr<UniqueFd> ListenUnix(const std::string& path, int type, unsigned mode);

// ConnectUnix connects to `path` within `timeout`, waiting while the listener's backlog is full.
[[nodiscard]] absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path, int type,
                                                   Duration timeout);

// Message is one datagram of a SOCK_SEQPACKET socket with the descriptors that came along.
struct Message {
  std::string bytes;
  std::vector<UniqueFd> fds;
};

inline constexpr std::size_t kMaxMessageBytes = std::size_t{128} * 1024;
inline constexpr std::size_t kMaxMessageFds = 64;

// SendMessage sends one datagram with duplicates of `fds`; the caller keeps its own.
[[nodiscard]] absl::Status SendMessage(int socket, std::string_view bytes,
                                       const std::vector<int>& fds);

// ReceiveMessage blocks for one datagram. An orderly end of the peer is UNAVAILABLE, a datagram or
// descriptor list that was cut is an INVALID_ARGUMENT. Descriptors received are close-on-exec.
[[nodiscard]] absl::StatusOr<Message> ReceiveMessage(int socket);

// IsNotYet tells whether a non-blocking call that failed with `error` (errno) is to be made again
// once the descriptor is ready.
[[nodiscard]] constexpr bool IsNotYet(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

}  // namespace sealift::base
