#include "qemu/qmp_client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/socket.h"
#include "base/status.h"

namespace sealift::qemu {
namespace {

using nlohmann::json;

// A QEMU that does not read its socket must not hold up the sender for ever.
void LimitSending(int socket) {
  const timeval limit{
      .tv_sec = std::chrono::duration_cast<std::chrono::seconds>(kQmpTimeout).count(),
      .tv_usec = 0};
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

}  // namespace

absl::StatusOr<std::unique_ptr<QmpClient>> QmpClient::Connect(const std::string& path,
                                                              Handlers handlers,
                                                              base::Duration timeout) {
  SEALIFT_ASSIGN_OR_RETURN(base::UniqueFd socket, base::ConnectUnix(path, SOCK_STREAM, timeout));
  return Take(std::move(socket), std::move(handlers), timeout);
}

absl::StatusOr<std::unique_ptr<QmpClient>> QmpClient::Take(base::UniqueFd socket, Handlers handlers,
                                                           base::Duration timeout) {
  std::unique_ptr<QmpClient> client(new QmpClient(std::move(socket), std::move(handlers)));
  SEALIFT_RETURN_IF_ERROR(client->ShakeHands(timeout));
  return client;
}

QmpClient::QmpClient(base::UniqueFd socket, Handlers handlers)
    : socket_(std::move(socket)), handlers_(std::move(handlers)) {
  LimitSending(socket_.get());
  reader_ = std::thread([this] { Read(); });
}

QmpClient::~QmpClient() {
  shutdown(socket_.get(), SHUT_RDWR);
  reader_.join();
}

absl::Status QmpClient::ShakeHands(base::Duration timeout) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [&] { return greeting_.has_value() || broken_.has_value(); });
    if (!greeting_.has_value()) {
      return broken_.value_or(absl::DeadlineExceededError("QMP: QEMU sent no greeting"));
    }
    version_ = greeting_->version;
  }
  return Execute("qmp_capabilities", nullptr, timeout).status();
}

absl::StatusOr<json> QmpClient::Execute(std::string_view command, json arguments,
                                        base::Duration timeout) {
  std::unique_lock lock(mutex_);
  if (broken_.has_value()) return *broken_;
  const std::uint64_t id = next_id_++;
  pending_[id] = std::nullopt;
  lock.unlock();
  const absl::Status sent = Send(FormatQmpRequest(command, arguments, id));
  lock.lock();
  if (sent.ok()) {
    changed_.wait_for(lock, timeout,
                      [&] { return pending_[id].has_value() || broken_.has_value(); });
  }
  const Reply reply = std::move(pending_[id]);
  pending_.erase(id);
  if (!reply.has_value()) {
    if (broken_.has_value()) return *broken_;
    if (!sent.ok()) return sent;
    return absl::DeadlineExceededError(
        fmt::format("QEMU did not answer {} within {} ms", command,
                    std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()));
  }
  if (const auto* error = std::get_if<QmpError>(&*reply)) return StatusOfQmpError(command, *error);
  return std::get<QmpReturn>(*reply).value;
}

absl::Status QmpClient::Check() {
  const std::lock_guard lock(mutex_);
  return broken_.value_or(absl::OkStatus());
}

absl::Status QmpClient::Send(const std::string& request) {
  const std::lock_guard lock(send_mutex_);
  std::string_view rest = request;
  while (!rest.empty()) {
    const ssize_t sent = send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) {
      // Half a request may be out: nothing sensible can follow it.
      const int error = errno == EAGAIN ? ETIMEDOUT : errno;
      shutdown(socket_.get(), SHUT_RDWR);
      return base::ErrnoStatus("QMP: send", error);
    }
    rest.remove_prefix(static_cast<std::size_t>(sent));
  }
  return absl::OkStatus();
}

void QmpClient::Read() {
  absl::Status end = ReadUntilBroken();
  {
    const std::lock_guard lock(mutex_);
    broken_ = std::move(end);
    changed_.notify_all();
  }
  if (handlers_.closed) handlers_.closed();
}

absl::Status QmpClient::ReadUntilBroken() {
  LineSplitter lines;
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    // A QEMU that exits with unread requests resets the connection: an end like any other.
    if (got <= 0) return absl::UnavailableError("QMP: QEMU has hung up");
    absl::Status status = lines.Append({buffer.data(), static_cast<std::size_t>(got)});
    for (std::optional<std::string> line; status.ok() && (line = lines.Next());) {
      if (!line->empty()) status = Dispatch(*line);
    }
    if (!status.ok()) return absl::UnavailableError(base::MessageOf(status));
  }
}

absl::Status QmpClient::Dispatch(std::string_view line) {
  SEALIFT_ASSIGN_OR_RETURN(QmpMessage message, ParseQmpMessage(line));
  if (auto* event = std::get_if<QmpEvent>(&message)) {
    if (handlers_.event) handlers_.event(*event);
  } else if (auto* result = std::get_if<QmpReturn>(&message)) {
    const std::uint64_t id = result->id;
    Deliver(id, std::move(*result));
  } else if (auto* error = std::get_if<QmpError>(&message)) {
    // Every request of ours has an id; without one QEMU and we disagree about the protocol.
    if (!error->id.has_value()) return absl::InternalError("QMP: " + error->description);
    const std::uint64_t id = *error->id;
    Deliver(id, std::move(*error));
  } else {
    const std::lock_guard lock(mutex_);
    greeting_ = std::get<QmpGreeting>(std::move(message));
    changed_.notify_all();
  }
  return absl::OkStatus();
}

template <typename T>
void QmpClient::Deliver(std::uint64_t id, T reply) {
  const std::lock_guard lock(mutex_);
  const auto waiting = pending_.find(id);
  if (waiting == pending_.end()) return;  // it gave up waiting
  waiting->second = std::move(reply);
  changed_.notify_all();
}

}  // namespace sealift::qemu
