#include "rpc/connection_gate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace sealift::rpc {
namespace {

// How soon it is looked again whether there is room.
constexpr int kRetryMs = 5;
// So that ends are seen between two bursts of newcomers.
constexpr int kAtOnce = 64;
constexpr std::chrono::minutes kBetweenWarnings{1};

struct Name {
  std::string peer;
  std::string address;
};

std::string Written(int family, const void* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(family, address, text.data(), text.size());
  return text.data();
}

Name NameIpv4(const in_addr& address, in_port_t port) {
  const std::string text = Written(AF_INET, &address);
  return {fmt::format("ipv4:{}:{}", text, ntohs(port)), text};
}

// Who has one address of IPv6 has a network of 2^64.
Name NameIpv6(const sockaddr_in6& from) {
  if (IN6_IS_ADDR_V4MAPPED(&from.sin6_addr)) {
    in_addr mapped{};
    std::memcpy(&mapped, &from.sin6_addr.s6_addr[12], sizeof mapped);
    return NameIpv4(mapped, from.sin6_port);
  }
  in6_addr network = from.sin6_addr;
  std::fill(&network.s6_addr[8], &network.s6_addr[16], std::uint8_t{0});
  return {
      fmt::format("ipv6:%5B{}%5D:{}", Written(AF_INET6, &from.sin6_addr), ntohs(from.sin6_port)),
      Written(AF_INET6, &network)};
}

Name NamePeerOf(int socket) {
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&from), &size) != 0) return {};
  if (from.ss_family == AF_INET6) return NameIpv6(reinterpret_cast<const sockaddr_in6&>(from));
  const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(from);
  return NameIpv4(ipv4.sin_addr, ipv4.sin_port);
}

// InodeOf is 0 for a descriptor that is none of an open socket. A socket has the same one through
// each of its descriptors, and no other has it meanwhile.
ino_t InodeOf(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

}  // namespace

ConnectionGate::ConnectionGate(std::vector<base::UniqueFd> listeners, std::size_t places)
    : places_(places),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC)),
      listeners_(std::move(listeners)),
      next_(listeners_.size() + 1) {
  SEALIFT_CHECK(epoll_.valid() && wake_.valid());
}

// The numbers below next_ at first: the listeners, then wake_.
void ConnectionGate::Open(std::unique_ptr<Acceptor> acceptor) {
  acceptor_ = std::move(acceptor);
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    SEALIFT_CHECK(Watch(EPOLL_CTL_ADD, listeners_[i].get(), i, EPOLLIN));
  }
  SEALIFT_CHECK(Watch(EPOLL_CTL_ADD, wake_.get(), listeners_.size(), EPOLLIN));
  thread_ = std::thread([this] { Run(); });
}

void ConnectionGate::Close() {
  if (!thread_.joinable()) return;
  SEALIFT_CHECK(eventfd_write(wake_.get(), 1) == 0);
  thread_.join();
  listeners_.clear();
}

bool ConnectionGate::Watch(int operation, int fd, std::uint64_t number,
                           std::uint32_t events) const {
  epoll_event event{};
  event.events = events;
  event.data.u64 = number;
  return epoll_ctl(epoll_.get(), operation, fd, &event) == 0;
}

void ConnectionGate::Run() {
  const std::uint64_t wake = listeners_.size();
  bool room = true;
  for (;;) {
    std::array<epoll_event, kAtOnce> events;
    const int count = epoll_wait(epoll_.get(), events.data(), kAtOnce, room ? -1 : kRetryMs);
    std::vector<int> accepted;
    const bool had_room = room;
    {
      const std::lock_guard lock(mutex_);
      for (int i = 0; i < count; ++i) {
        const std::uint64_t number = events[static_cast<std::size_t>(i)].data.u64;
        if (number == wake) return;
        if (number > wake) SetLeaving(number);
      }
      room = Accept(accepted);
    }
    for (std::size_t i = 0; i < wake && room != had_room; ++i) {
      SEALIFT_CHECK(
          Watch(EPOLL_CTL_MOD, listeners_[i].get(), i, room ? std::uint32_t{EPOLLIN} : 0));
    }
    // Not under the lock: gRPC may run what it likes.
    for (const int fd : accepted) {
      Acceptor::NewConnectionParameters connection;
      connection.fd = fd;
      acceptor_->HandleNewConnection(&connection);
    }
  }
}

bool ConnectionGate::Accept(std::vector<int>& accepted) {
  for (const base::UniqueFd& listener : listeners_) {
    for (int i = 0; i < kAtOnce; ++i) {
      if (!HasRoom()) return false;
      base::UniqueFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (fd.valid() && Admit(fd.get())) {
        accepted.push_back(fd.release());
        continue;
      }
      if (errno == EAGAIN) break;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        PushOut();
        return false;
      }
    }
  }
  return true;
}

bool ConnectionGate::HasRoom() {
  std::erase_if(leaving_,
                [](const Connection& old) { return InodeOf(old.handed_over) != old.inode; });
  return connections_.size() + leaving_.size() < 2 * places_;
}

bool ConnectionGate::Admit(int fd) {
  Name name = NamePeerOf(fd);
  base::UniqueFd watch(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  const std::uint64_t number = next_++;
  // It may be gone already, or there may be no descriptor left. Its end will be told unasked.
  if (name.peer.empty() || !watch.valid() || !Watch(EPOLL_CTL_ADD, watch.get(), number, 0)) {
    return false;
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  connections_.emplace(number, Connection{std::move(watch), fd, InodeOf(fd), std::move(name.peer),
                                          std::move(name.address)});
  if (connections_.size() > places_) PushOut();
  return true;
}

// Perhaps the one that has just come, where all others are known.
void ConnectionGate::PushOut() {
  struct Strangers {
    std::size_t count = 0;
    std::uint64_t oldest = 0;
  };
  std::map<std::string_view, Strangers> by_address;
  for (const auto& [number, connection] : connections_) {
    if (connection.is == Connection::Is::kKnown) continue;
    Strangers& strangers = by_address[connection.address];
    if (strangers.count++ == 0) strangers.oldest = number;
  }
  const auto most =
      std::ranges::max_element(by_address, {}, [](const auto& each) { return each.second.count; });
  if (most == by_address.end()) return;
  if (const auto now = std::chrono::steady_clock::now(); now - warned_ > kBetweenWarnings) {
    spdlog::warn("{} connections are open, {} of them strangers from {}: the oldest are ended",
                 connections_.size(), most->second.count, most->first);
    warned_ = now;
  }
  SetLeaving(most->second.oldest);
}

// Also one that is over already.
void ConnectionGate::SetLeaving(std::uint64_t number) {
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  shutdown(connection.watch.get(), SHUT_RDWR);
  SEALIFT_CHECK(Watch(EPOLL_CTL_DEL, connection.watch.get(), number, 0));
  leaving_.push_back(std::move(connection));
  connections_.erase(found);
}

void ConnectionGate::MakeKnown(const std::string& peer) {
  const std::lock_guard lock(mutex_);
  for (auto& [number, connection] : connections_) {
    if (connection.peer == peer) connection.is = Connection::Is::kKnown;
  }
}

}  // namespace sealift::rpc
