// A TCP forwarder for tests that can fall silent, as a host does that has lost its power.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/socket.h"
#include "base/unique_fd.h"

namespace sealift::rpc {

// TestForwarder takes one connection on the loopback interface and carries its bytes to and from a
// port there.
class TestForwarder {
 public:
  explicit TestForwarder(std::uint16_t to) : to_(to) {
    auto listener = base::ListenTcp("127.0.0.1", 0, 0);
    SEALIFT_CHECK(listener.ok());
    std::tie(listener_, port_) = *std::move(listener);
    thread_ = std::thread([this] { Run(); });
  }
  TestForwarder(const TestForwarder&) = delete;
  TestForwarder& operator=(const TestForwarder&) = delete;
  ~TestForwarder() {
    stop_ = true;
    thread_.join();
  }

  [[nodiscard]] std::uint16_t port() const { return port_; }
  // Freeze carries nothing any more; the connections stay open.
  void Freeze() { frozen_ = true; }

 private:
  static constexpr int kTickMs = 20;

  void Run() {
    pollfd waiting{listener_.get(), POLLIN, 0};
    while (!stop_ && poll(&waiting, 1, kTickMs) == 0) {
    }
    if (stop_) return;
    const base::UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    auto server = base::ConnectTcp({"127.0.0.1", to_}, std::chrono::seconds(10));
    SEALIFT_CHECK(server.ok());
    bool open = true;
    while (!stop_ && open) {
      pollfd fds[2] = {{client.get(), POLLIN, 0}, {server->get(), POLLIN, 0}};
      poll(fds, frozen_ ? 0 : 2, kTickMs);
      if (frozen_) continue;
      if (fds[0].revents != 0) open = Carry(client.get(), server->get());
      if (open && fds[1].revents != 0) open = Carry(server->get(), client.get());
    }
  }

  static bool Carry(int from, int to) {
    char buffer[16384];
    const ssize_t got = recv(from, buffer, sizeof buffer, 0);
    return got > 0 && send(to, buffer, static_cast<std::size_t>(got), MSG_NOSIGNAL) == got;
  }

  const std::uint16_t to_;
  base::UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> frozen_ = false;
  std::thread thread_;
};

}  // namespace sealift::rpc
