#include "cli/console_pump.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>

#include "base/check.h"
#include "base/unique_fd.h"

namespace sealift::cli {
namespace {

using Clock = std::chrono::steady_clock;

bool WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t written = write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

class Pump {
 public:
  Pump(const ConsolePorts& ports, const ConsoleStream& stream)
      : ports_(ports), stream_(stream), escapes_(isatty(ports.input) != 0) {
    ended_.reset(eventfd(0, EFD_CLOEXEC));
    SEALIFT_CHECK(ended_.valid());
  }

  ConsoleEnd Run() {
    std::thread writer([this] { CopyOutput(); });
    const ConsoleEnd end = CopyInput();
    // A stream that ended by itself has a status worth reading; leaving would replace it by a
    // cancellation.
    if (end != ConsoleEnd::kServer) stream_.leave();
    writer.join();
    return end;
  }

 private:
  void CopyOutput() {
    std::string data;
    while (stream_.receive(data)) {
      if (!WriteAll(ports_.output, data)) {
        output_failed_ = true;
        break;
      }
      last_output_ = Clock::now();
    }
    eventfd_write(ended_.get(), 1);
  }

  ConsoleEnd CopyInput() {
    std::array<pollfd, 3> fds{
        {{ended_.get(), POLLIN, 0}, {ports_.leave, POLLIN, 0}, {ports_.input, POLLIN, 0}}};
    while (true) {
      const int ready = poll(fds.data(), fds.size(), PollTimeout(fds[2].fd < 0));
      if (ready < 0) continue;
      if (fds[0].revents != 0) {
        return output_failed_ ? ConsoleEnd::kOutputFailed : ConsoleEnd::kServer;
      }
      if (fds[1].revents != 0) return ConsoleEnd::kLeave;
      if (ready == 0 && Silence() >= ports_.linger) return ConsoleEnd::kIdle;
      if (fds[2].revents == 0) continue;
      const Input input = CopyOnce();
      if (input == Input::kEscape) return ConsoleEnd::kEscape;
      if (input == Input::kEnded) fds[2].fd = -1;
    }
  }

  enum class Input { kCopied, kEnded, kEscape };

  // CopyOnce passes on what the user typed. When the far side is gone the other thread notices.
  Input CopyOnce() {
    std::array<char, 4096> buffer{};
    const ssize_t size = read(ports_.input, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) return Input::kCopied;
    if (size <= 0) {
      last_output_ = Clock::now();
      return Input::kEnded;
    }
    std::string_view typed(buffer.data(), static_cast<std::size_t>(size));
    const std::size_t escape = escapes_ ? typed.find(kConsoleEscape) : std::string_view::npos;
    typed = typed.substr(0, escape);
    if (!typed.empty() && !stream_.send(typed)) return Input::kEnded;
    return escape == std::string_view::npos ? Input::kCopied : Input::kEscape;
  }

  [[nodiscard]] std::chrono::milliseconds Silence() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() -
                                                                 last_output_.load());
  }

  [[nodiscard]] int PollTimeout(bool input_ended) const {
    if (!input_ended || ports_.linger.count() == 0) return -1;
    return static_cast<int>(std::max<long>((ports_.linger - Silence()).count(), 0));
  }

  const ConsolePorts& ports_;
  const ConsoleStream& stream_;
  const bool escapes_;
  base::UniqueFd ended_;
  std::atomic<bool> output_failed_ = false;
  std::atomic<Clock::time_point> last_output_ = Clock::now();
};

}  // namespace

ConsoleEnd PumpConsole(const ConsolePorts& ports, const ConsoleStream& stream) {
  return Pump(ports, stream).Run();
}

}  // namespace sealift::cli
