// A connection to the QMP socket of one QEMU.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "qemu/qmp_message.h"

namespace sealift::qemu {

// A live QEMU answers within milliseconds, a busy host's within a second; one that does not is
// wedged.
inline constexpr base::Duration kQmpTimeout = std::chrono::seconds(5);

// QmpClient sends commands and receives replies and events. One thread reads; Execute() may be
// called from any other, also by several at a time. A broken connection stays broken: every later
// call returns the same UNAVAILABLE status.
class QmpClient {
 public:
  struct Handlers {
    // Both run on the reader thread and must neither call Execute() nor destroy the client.
    std::function<void(const QmpEvent&)> event;
    std::function<void()> closed;  // the last thing that the reader does
  };

  // Connect and Take return once greeting and qmp_capabilities are done. A QEMU that says nothing
  // within `timeout` is DEADLINE_EXCEEDED, one that hangs up UNAVAILABLE.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<QmpClient>> Connect(
      const std::string& path, Handlers handlers, base::Duration timeout = kQmpTimeout);
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<QmpClient>> Take(
      base::UniqueFd socket, Handlers handlers, base::Duration timeout = kQmpTimeout);

  // Hangs up and joins the reader; pending calls must be over.
  ~QmpClient();
  QmpClient(const QmpClient&) = delete;
  QmpClient& operator=(const QmpClient&) = delete;

  // Execute runs a command and returns what QEMU returned. A refusal is described by
  // StatusOfQmpError(); no reply within `timeout` is DEADLINE_EXCEEDED, and a reply that comes
  // later is dropped.
  [[nodiscard]] absl::StatusOr<nlohmann::json> Execute(std::string_view command,
                                                       nlohmann::json arguments = nullptr,
                                                       base::Duration timeout = kQmpTimeout);

  // Check is OK until the connection is broken.
  [[nodiscard]] absl::Status Check();

  // version of QEMU as in its greeting: "7.2.22".
  [[nodiscard]] const std::string& version() const { return version_; }

 private:
  using Reply = std::optional<std::variant<QmpReturn, QmpError>>;  // empty: not there yet

  QmpClient(base::UniqueFd socket, Handlers handlers);
  absl::Status ShakeHands(base::Duration timeout);
  absl::Status Send(const std::string& request);
  void Read();
  absl::Status ReadUntilBroken();
  absl::Status Dispatch(std::string_view line);
  template <typename T>
  void Deliver(std::uint64_t id, T reply);

  base::UniqueFd socket_;
  const Handlers handlers_;
  std::string version_;  // set before Take() returns
  std::mutex send_mutex_;
  std::mutex mutex_;  // guards what follows; never held while a handler runs or while sending
  std::condition_variable changed_;
  std::optional<QmpGreeting> greeting_;
  std::optional<absl::Status> broken_;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Reply> pending_;
  std::thread reader_;
};

}  // namespace sealift::qemu
