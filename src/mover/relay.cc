#include "mover/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/socket.h"
#include "base/status.h"

namespace sealift::mover {
namespace {

void SetNonBlocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

}  // namespace

Relay::Relay(std::uint16_t number, transport::Stream stream, RelayEvents& events)
    : number_(number),
      events_(events),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      stream_(std::move(stream)) {
  SEALIFT_CHECK(wake_.valid());
  thread_ = std::thread([this] { Run(); });
}

Relay::~Relay() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  Wake();
  thread_.join();
}

void Relay::SetChannel(std::unique_ptr<Channel> channel) {
  const std::lock_guard lock(mutex_);
  channel_ = std::move(channel);
  Wake();
}

std::uint64_t Relay::StopReceiving() {
  const std::lock_guard lock(mutex_);
  CloseConnection();
  return stream_.next_expected();
}

absl::Status Relay::SetConnection(base::UniqueFd connection, std::uint32_t generation,
                                  std::uint64_t peer_next_expected) {
  SetNonBlocking(connection.get());
  const std::lock_guard lock(mutex_);
  CloseConnection();
  SEALIFT_RETURN_IF_ERROR(stream_.Attach(generation, peer_next_expected));
  connection_ = std::move(connection);
  generation_ = generation;
  Wake();
  return absl::OkStatus();
}

void Relay::Wake() { eventfd_write(wake_.get(), 1); }

void Relay::Run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const absl::Status status = Pump();
    if (!status.ok()) {
      events_.OnFailed(number_, status);
      return;
    }
    if (!reported_end_ && Settled() && channel_took_all_) {
      reported_end_ = true;
      events_.OnEnded(number_);
    }
    Wait(lock);
  }
}

bool Relay::CanReadConnection() const {
  return connection_.valid() && channel_ != nullptr && channel_took_all_;
}

bool Relay::Settled() {
  // Without a connection our last acknowledgement may not have left.
  return settled_ || (connection_.valid() && stream_.send_ended() && stream_.receive_ended() &&
                      stream_.Outgoing().empty());
}

void Relay::Wait(std::unique_lock<std::mutex>& lock) {
  std::array<pollfd, 3> fds{pollfd{wake_.get(), POLLIN, 0}, {-1, 0, 0}, {-1, 0, 0}};
  if (CanReadConnection()) fds[1].events |= POLLIN;
  if (connection_.valid() && !stream_.Outgoing().empty()) fds[1].events |= POLLOUT;
  // A descriptor with nothing to wait for is left out: poll would report its hang-up for ever.
  if (fds[1].events != 0) fds[1].fd = connection_.get();
  if (channel_ != nullptr) fds[2] = channel_->WaitFor(stream_.HasRoom());
  const bool at_once = HasRoom() && channel_->HasMore();
  lock.unlock();
  poll(fds.data(), fds.size(), at_once ? 0 : -1);
  if ((fds[0].revents & POLLIN) != 0) {
    eventfd_t ignored = 0;
    eventfd_read(wake_.get(), &ignored);
  }
  lock.lock();
  // An error or a hang-up is found by reading.
  connection_readable_ = (fds[1].revents & ~POLLOUT) != 0;
  channel_readable_ = (fds[2].revents & ~POLLOUT) != 0;
}

absl::Status Relay::Pump() {
  SEALIFT_RETURN_IF_ERROR(ReadChannel());
  WriteConnection();
  if (channel_ != nullptr) channel_took_all_ = channel_->Flush();
  ReadConnection();
  return OpenRecords();
}

absl::Status Relay::ReadChannel() {
  if (!HasRoom() || !(channel_readable_ || channel_->HasMore())) return absl::OkStatus();
  SEALIFT_RETURN_IF_ERROR(channel_->Send(stream_));
  payload_bytes_ = stream_.payload_bytes();
  return absl::OkStatus();
}

void Relay::WriteConnection() {
  while (connection_.valid()) {
    const base::ByteSpan out = stream_.Outgoing();
    if (out.empty()) return;
    const ssize_t sent = send(connection_.get(), out.data(), out.size(), MSG_NOSIGNAL);
    if (sent < 0 && base::IsNotYet(errno)) return;
    if (sent < 0) return Disconnect(std::generic_category().message(errno));
    stream_.Sent(static_cast<std::size_t>(sent));
    wire_bytes_ += static_cast<std::uint64_t>(sent);
  }
}

void Relay::ReadConnection() {
  if (!connection_readable_ || !CanReadConnection()) return;
  const base::MutableByteSpan buffer = stream_.ReceiveBuffer();
  const ssize_t got = recv(connection_.get(), buffer.data(), buffer.size(), 0);
  if (got < 0 && base::IsNotYet(errno)) return;
  if (got < 0) return Disconnect(std::generic_category().message(errno));
  if (got == 0) return Disconnect("closed by the peer");
  stream_.Received(static_cast<std::size_t>(got));
  wire_bytes_ += static_cast<std::uint64_t>(got);
}

absl::Status Relay::OpenRecords() {
  while (channel_ != nullptr && channel_took_all_) {
    absl::StatusOr<std::optional<transport::Delivery>> next = stream_.Next(channel_->Destination());
    if (!next.ok()) {
      Disconnect(base::MessageOf(next.status()));
      return absl::OkStatus();
    }
    if (!next->has_value()) break;
    payload_bytes_ = stream_.payload_bytes();
    SEALIFT_RETURN_IF_ERROR(channel_->Receive(**next));
    channel_took_all_ = channel_->Flush();
  }
  return absl::OkStatus();
}

void Relay::CloseConnection() {
  // A peer that has everything may hang up before we have looked.
  settled_ = Settled();
  connection_.reset();
  stream_.Detach();
}

void Relay::Disconnect(const std::string& why) {
  if (!connection_.valid()) return;
  CloseConnection();
  if (!settled_) events_.OnDisconnected(number_, generation_, why);
}

}  // namespace sealift::mover
