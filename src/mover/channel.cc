#include "mover/channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/socket.h"

namespace sealift::mover {
namespace {

using record::RecordType;

RecordType TypeOf(ChannelKind kind) {
  return kind == ChannelKind::kBytes ? RecordType::kData : RecordType::kControl;
}

}  // namespace

SocketChannel::SocketChannel(base::UniqueFd socket, ChannelKind kind)
    : socket_(std::move(socket)), kind_(kind) {
  fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
}

absl::Status SocketChannel::Send(transport::Stream& stream) {
  if (read_ended_) return absl::OkStatus();
  const base::MutableByteSpan buffer = stream.PayloadBuffer();
  const ssize_t got = read(socket_.get(), buffer.data(), buffer.size());
  if (got < 0 && base::IsNotYet(errno)) return absl::OkStatus();
  // A reset of the local socket is an end too: what it means is for QEMU at the other side to say.
  read_ended_ = got <= 0;
  const RecordType type = read_ended_ ? RecordType::kFinal : TypeOf(kind_);
  return stream.Send(type, read_ended_ ? 0 : static_cast<std::size_t>(got));
}

absl::Status SocketChannel::Receive(const transport::Delivery& delivery) {
  if (delivery.type == RecordType::kFinal) {
    shutdown(socket_.get(), SHUT_WR);
    write_ended_ = true;
    return absl::OkStatus();
  }
  if (delivery.type != TypeOf(kind_)) {
    return absl::PermissionDeniedError("the peer sent a record that has no place on this stream");
  }
  undelivered_ = delivery.payload;
  return absl::OkStatus();
}

bool SocketChannel::Flush() {
  while (!undelivered_.empty()) {
    if (write_ended_) {
      undelivered_ = {};
      break;
    }
    const ssize_t sent =
        send(socket_.get(), undelivered_.data(), undelivered_.size(), MSG_NOSIGNAL);
    if (sent < 0 && base::IsNotYet(errno)) return false;
    if (sent < 0) {
      // QEMU has closed its end. Its own end of file, on the read side, tells the other host.
      write_ended_ = true;
      continue;
    }
    undelivered_ = undelivered_.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

pollfd SocketChannel::WaitFor(bool room) const {
  short events = 0;
  if (room && !read_ended_) events |= POLLIN;
  if (!undelivered_.empty()) events |= POLLOUT;
  // With nothing to wait for it is left out: poll would report its hang-up for ever.
  return {events != 0 ? socket_.get() : -1, events, 0};
}

}  // namespace sealift::mover
