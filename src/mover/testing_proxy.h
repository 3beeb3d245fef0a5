// The migration network between two movers: a TCP proxy that a test can make hostile.
#pragma once

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/bytes.h"
#include "base/socket.h"
#include "base/unique_fd.h"
#include "mover/testing.h"

namespace sealift::mover::testing {

enum class Way : std::size_t { kToDestination, kToSource };

// Piece is what the proxy has read at once.
struct Piece {
  std::size_t connection;  // counted from 0 in the order of arrival
  Way way;
  std::size_t offset;  // bytes that this connection has carried this way before
  base::MutableByteSpan bytes;
};

class Proxy {
 public:
  enum class Verdict { kPass, kCut };
  // A tap may change the bytes of a piece. With kCut half of the piece still goes, then the
  // connection ends. Never called twice at a time.
  using Tap = std::function<Verdict(const Piece&)>;

  Proxy(std::uint16_t destination, Tap tap) : destination_(destination), tap_(std::move(tap)) {
    auto listener = base::ListenTcp("127.0.0.1", 0, 0).value();
    listener_ = std::move(listener.first);
    port_ = listener.second;
    acceptor_ = std::thread([this] { Accept(); });
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;
  ~Proxy() {
    Release();
    eventfd_write(stop_.get(), 1);
    acceptor_.join();
    for (Link& link : links_) link.Shut();
    for (Link& link : links_) {
      for (std::thread& pump : link.pumps) pump.join();
    }
  }

  [[nodiscard]] std::uint16_t port() const { return port_; }
  // How many connections there were.
  [[nodiscard]] std::size_t connections() {
    const std::lock_guard lock(mutex_);
    return links_.size();
  }
  // Stall holds back what connection `number` carries to the destination until Release; false when
  // there was nothing to hold back for kPatience.
  [[nodiscard]] bool Stall(std::size_t number) {
    std::unique_lock lock(mutex_);
    stalled_ = number;
    return ended_.wait_for(lock, kPatience, [this] { return holding_; });
  }
  void Release() {
    const std::lock_guard lock(mutex_);
    stalled_.reset();
    ended_.notify_all();
  }
  // Waits until no connection is left; false after kPatience.
  [[nodiscard]] bool WaitIdle() {
    std::unique_lock lock(mutex_);
    return ended_.wait_for(lock, kPatience, [this] { return pumping_ == 0; });
  }

 private:
  struct Link {
    base::UniqueFd source;
    base::UniqueFd destination;
    std::array<std::thread, 2> pumps;

    void Shut() const {
      shutdown(source.get(), SHUT_RDWR);
      shutdown(destination.get(), SHUT_RDWR);
    }
  };

  void Accept() {
    for (;;) {
      std::array<pollfd, 2> waits = {pollfd{listener_.get(), POLLIN, 0},
                                     pollfd{stop_.get(), POLLIN, 0}};
      poll(waits.data(), waits.size(), -1);
      if (waits[1].revents != 0) return;
      base::UniqueFd source(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      auto destination = base::ConnectTcp({"127.0.0.1", destination_}, kPatience);
      if (source.valid() && destination.ok()) Join(std::move(source), *std::move(destination));
    }
  }
  void Join(base::UniqueFd source, base::UniqueFd destination) {
    const std::lock_guard lock(mutex_);
    const std::size_t number = links_.size();
    Link& link = links_.emplace_back();
    link.source = std::move(source);
    link.destination = std::move(destination);
    pumping_ += 2;
    link.pumps[0] = std::thread([&link, number, this] {
      Pump(link, number, Way::kToDestination, link.source.get(), link.destination.get());
    });
    link.pumps[1] = std::thread([&link, number, this] {
      Pump(link, number, Way::kToSource, link.destination.get(), link.source.get());
    });
  }
  void Pump(const Link& link, std::size_t number, Way way, int from, int to) {
    base::Bytes buffer(64 * 1024);
    std::size_t offset = 0;
    for (bool open = true; open;) {
      const ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      auto bytes = base::MutableByteSpan(buffer).first(static_cast<std::size_t>(got));
      const Piece piece{number, way, offset, bytes};
      offset += bytes.size();
      if (way == Way::kToDestination) HoldBack(number);
      if (Ask(piece) == Verdict::kCut) {
        bytes = bytes.first(bytes.size() / 2);
        open = false;
      }
      open = SendAll(to, base::AsText(bytes)) && open;
    }
    link.Shut();
    const std::lock_guard lock(mutex_);
    --pumping_;
    ended_.notify_all();
  }
  void HoldBack(std::size_t number) {
    std::unique_lock lock(mutex_);
    while (stalled_ == number) {
      holding_ = true;
      ended_.notify_all();
      ended_.wait(lock);
    }
  }
  Verdict Ask(const Piece& piece) {
    if (!tap_) return Verdict::kPass;
    const std::lock_guard lock(tap_mutex_);
    return tap_(piece);
  }

  const std::uint16_t destination_;
  const Tap tap_;
  std::mutex tap_mutex_;
  base::UniqueFd listener_;
  std::uint16_t port_ = 0;
  const base::UniqueFd stop_{eventfd(0, EFD_CLOEXEC)};

  std::mutex mutex_;
  std::condition_variable ended_;
  // Guarded by mutex_:
  std::list<Link> links_;
  int pumping_ = 0;
  std::optional<std::size_t> stalled_;
  bool holding_ = false;

  std::thread acceptor_;
};

}  // namespace sealift::mover::testing
