#include "base/socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "absl/strings/numbers.h"
#include "base/status.h"

namespace sealift::base {
namespace {

constexpr int kBacklog = 128;

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

absl::StatusOr<AddressList> Resolve(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(fmt::format("resolve {}: {}", host, gai_strerror(error)));
  }
  return AddressList(found, &freeaddrinfo);
}

std::uint16_t PortOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

void SetPort(sockaddr_storage& address, std::uint16_t port) {
  if (address.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  }
}

// OpenListener listens at an address, the wildcard of IPv6 for both families; errno says why it
// could not.
UniqueFd OpenListener(const sockaddr* address, socklen_t size, int backlog) {
  UniqueFd fd(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fd;
  const int on = 1;
  const int off = 0;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address->sa_family == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (bind(fd.get(), address, size) == 0 && listen(fd.get(), backlog) == 0) return fd;
  const int error = errno;
  fd.reset();
  errno = error;
  return fd;
}

std::uint16_t PortOf(const UniqueFd& socket) {
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &length);
  return PortOf(bound);
}

// A name may have addresses that are not this host's: one that is will do.
absl::StatusOr<Listeners> ListenAtAll(const HostPort& at) {
  SEALIFT_ASSIGN_OR_RETURN(const AddressList found, Resolve(at.host, at.port, AI_PASSIVE));
  Listeners listeners{{}, at.port};
  int error = 0;
  for (const addrinfo* each = found.get(); each != nullptr; each = each->ai_next) {
    sockaddr_storage address{};
    std::memcpy(&address, each->ai_addr, each->ai_addrlen);
    SetPort(address, listeners.port);
    UniqueFd fd =
        OpenListener(reinterpret_cast<const sockaddr*>(&address), each->ai_addrlen, SOMAXCONN);
    if (!fd.valid()) {
      error = errno;
      continue;
    }
    listeners.port = PortOf(fd);
    listeners.sockets.push_back(std::move(fd));
  }
  if (!listeners.sockets.empty()) return listeners;
  return ErrnoStatus(fmt::format("listen on {} port {}", at.host, at.port), error);
}

absl::StatusOr<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(
        fmt::format("socket path {} is longer than {} bytes", path, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// FinishConnect waits for a non-blocking connect to end and makes the socket blocking.
absl::Status FinishConnect(int fd, Duration timeout) {
  pollfd waiting{fd, POLLOUT, 0};
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count();
  const int ready = poll(&waiting, 1, static_cast<int>(millis));
  if (ready < 0) return ErrnoStatus("wait", errno);
  if (ready == 0) return ErrnoStatus("wait", ETIMEDOUT);
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  if (error != 0) return ErrnoStatus("connect", error);
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) != 0) return ErrnoStatus("fcntl", errno);
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> ConnectTo(const addrinfo& target, Duration timeout) {
  UniqueFd fd(socket(target.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus("socket", errno);
  if (connect(fd.get(), target.ai_addr, target.ai_addrlen) != 0 && errno != EINPROGRESS) {
    return ErrnoStatus("connect", errno);
  }
  SEALIFT_RETURN_IF_ERROR(FinishConnect(fd.get(), timeout));
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace

std::string HostPort::ToString() const {
  if (host.find(':') != std::string::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

absl::StatusOr<HostPort> ParseHostPort(const std::string& text, std::uint16_t default_port) {
  HostPort result{.host = text, .port = default_port};
  std::string port_text;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string::npos) {
      return absl::InvalidArgumentError(fmt::format("address '{}' lacks a ']'", text));
    }
    result.host = text.substr(1, close - 1);
    if (close + 1 < text.size()) {
      if (text[close + 1] != ':') {
        return absl::InvalidArgumentError(fmt::format("address '{}' has text after ']'", text));
      }
      port_text = text.substr(close + 2);
      if (port_text.empty()) port_text = "?";
    }
  } else if (const std::size_t colon = text.find(':');
             colon != std::string::npos && text.find(':', colon + 1) == std::string::npos) {
    result.host = text.substr(0, colon);
    port_text = text.substr(colon + 1);
    if (port_text.empty()) port_text = "?";
  }
  if (result.host.empty() || result.host.find_first_of("[]") != std::string::npos) {
    return absl::InvalidArgumentError(fmt::format("address '{}' has no host", text));
  }
  if (!port_text.empty()) {
    unsigned port = 0;
    if (!absl::SimpleAtoi(port_text, &port) || port == 0 || port > 65535) {
      return absl::InvalidArgumentError(
          fmt::format("address '{}': '{}' is not a port (1-65535)", text, port_text));
    }
    result.port = static_cast<std::uint16_t>(port);
  }
  return result;
}

absl::StatusOr<std::pair<UniqueFd, std::uint16_t>> ListenTcp(const std::string& host,
                                                             std::uint16_t first,
                                                             std::uint16_t last) {
  int error = EADDRINUSE;
  for (unsigned port = first; port <= last; ++port) {
    SEALIFT_ASSIGN_OR_RETURN(AddressList found,
                             Resolve(host, static_cast<std::uint16_t>(port), AI_PASSIVE));
    UniqueFd fd = OpenListener(found->ai_addr, found->ai_addrlen, kBacklog);
    if (fd.valid()) {
      const std::uint16_t taken = PortOf(fd);
      return std::make_pair(std::move(fd), taken);
    }
    error = errno;
    if (error != EADDRINUSE) break;
  }
  return ErrnoStatus(first == last ? fmt::format("listen on {} port {}", host, first)
                                   : fmt::format("listen on {} ports {}-{}", host, first, last),
                     error);
}

absl::StatusOr<Listeners> ListenEverywhere(const HostPort& address) {
  if (address.host == "0.0.0.0") {
    absl::StatusOr<Listeners> both = ListenAtAll({"::", address.port});
    if (both.ok()) return both;  // else there is no IPv6 here
  }
  return ListenAtAll(address);
}

absl::StatusOr<UniqueFd> ConnectTcp(const HostPort& address, Duration timeout) {
  SEALIFT_ASSIGN_OR_RETURN(AddressList found, Resolve(address.host, address.port, 0));
  absl::Status last = absl::UnavailableError("no address");
  for (const addrinfo* target = found.get(); target != nullptr; target = target->ai_next) {
    absl::StatusOr<UniqueFd> fd = ConnectTo(*target, timeout);
    if (fd.ok()) return fd;
    last = fd.status();
  }
  return Annotate(last, fmt::format("connect to {}", address.ToString()));
}

absl::StatusOr<UniqueFd> ListenUnix(const std::string& path, int type, unsigned mode) {
  SEALIFT_ASSIGN_OR_RETURN(const sockaddr_un address, UnixAddress(path));
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoStatus("socket", errno);
  unlink(path.c_str());
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoStatus(fmt::format("bind {}", path), errno);
  }
  if (chmod(path.c_str(), mode) != 0)
    return ErrnoStatus(fmt::format("set mode of {}", path), errno);
  if (listen(fd.get(), 128) != 0) return ErrnoStatus(fmt::format("listen at {}", path), errno);
  return fd;
}

absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path, int type, Duration timeout) {
  SEALIFT_ASSIGN_OR_RETURN(const sockaddr_un address, UnixAddress(path));
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoStatus("socket", errno);
  // A blocking connect to a unix socket waits for room in the backlog, for at most SO_SNDTIMEO.
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(timeout - whole);
  timeval limit{.tv_sec = whole.count(), .tv_usec = micros.count()};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno == EAGAIN ? ETIMEDOUT : errno;
    return ErrnoStatus(fmt::format("connect to {}", path), error);
  }
  limit = {};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return fd;
}

absl::Status SendMessage(int socket, std::string_view bytes, const std::vector<int>& fds) {
  if (bytes.size() > kMaxMessageBytes || fds.size() > kMaxMessageFds) {
    return absl::InvalidArgumentError("send message: too large");
  }
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxMessageFds * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return ErrnoStatus("send message", errno);
  return absl::OkStatus();
}

absl::StatusOr<Message> ReceiveMessage(int socket) {
  Message result;
  result.bytes.resize(kMaxMessageBytes);
  iovec part{result.bytes.data(), result.bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxMessageFds * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return ErrnoStatus("receive message", errno);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      result.fds.emplace_back(fd);
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return absl::InvalidArgumentError("receive message: too large");
  }
  if (got == 0 && result.fds.empty())
    return absl::UnavailableError("receive message: peer is gone");
  result.bytes.resize(static_cast<std::size_t>(got));
  return result;
}

}  // namespace sealift::base
