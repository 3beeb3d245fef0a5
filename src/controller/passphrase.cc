#include "controller/passphrase.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace sealift::controller {
namespace {

constexpr std::size_t kLongestFile = 4096;

void Interrupt(int /*signal*/) {}

// While it lives, nothing typed is shown, and Ctrl-C ends WaitForInput() instead of the process,
// also when it comes before that waits.
class Silence {
 public:
  explicit Silence(int terminal) : terminal_(terminal) {
    sigset_t interrupt_only;
    sigemptyset(&interrupt_only);
    sigaddset(&interrupt_only, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt_only, &mask_before_);
    tcgetattr(terminal_, &before_);
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(terminal_, TCSAFLUSH, &silent);
    struct sigaction interrupt {};
    interrupt.sa_handler = Interrupt;
    sigaction(SIGINT, &interrupt, &action_before_);
  }
  ~Silence() {
    tcsetattr(terminal_, TCSAFLUSH, &before_);
    sigaction(SIGINT, &action_before_, nullptr);
    pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

  // CANCELLED after Ctrl-C.
  [[nodiscard]] absl::Status WaitForInput() const {
    sigset_t waiting = mask_before_;
    sigdelset(&waiting, SIGINT);
    pollfd input{terminal_, POLLIN, 0};
    if (ppoll(&input, 1, nullptr, &waiting) >= 0) return absl::OkStatus();
    if (errno == EINTR) return absl::CancelledError("interrupted");
    return base::ErrnoStatus("wait for the terminal", errno);
  }

 private:
  const int terminal_;
  sigset_t mask_before_{};
  termios before_{};
  struct sigaction action_before_ {};
};

absl::StatusOr<std::string> ReadLine(int terminal, const Silence& silence) {
  std::string line;
  for (;;) {
    SEALIFT_RETURN_IF_ERROR(silence.WaitForInput());
    char next = 0;
    const ssize_t got = read(terminal, &next, 1);
    if (got < 0) return base::ErrnoStatus("read from the terminal", errno);
    if (got == 0 || next == '\n') return line;
    line.push_back(next);
  }
}

absl::StatusOr<std::string> Ask(const std::string& prompt) {
  const base::UniqueFd terminal(open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (!terminal.valid()) {
    return absl::FailedPreconditionError(
        "there is no terminal to ask for the passphrase: name a file that holds it with "
        "--passphrase-file");
  }
  const Silence silence(terminal.get());
  dprintf(terminal.get(), "%s: ", prompt.c_str());
  absl::StatusOr<std::string> line = ReadLine(terminal.get(), silence);
  dprintf(terminal.get(), "\n");
  return line;
}

absl::StatusOr<std::string> FromFile(const std::string& file) {
  SEALIFT_ASSIGN_OR_RETURN(std::string text, base::ReadFile(file, kLongestFile));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

absl::StatusOr<std::string> AskTwice() {
  SEALIFT_ASSIGN_OR_RETURN(std::string first, Ask("Passphrase for the CA's key in the backup"));
  SEALIFT_ASSIGN_OR_RETURN(const std::string second, Ask("Once more"));
  if (first == second) return first;
  return absl::InvalidArgumentError("the two passphrases are not the same");
}

}  // namespace

absl::StatusOr<std::string> NewPassphrase(const std::string& file) {
  SEALIFT_ASSIGN_OR_RETURN(std::string passphrase, file.empty() ? AskTwice() : FromFile(file));
  if (passphrase.size() >= kShortestPassphrase) return passphrase;
  return absl::InvalidArgumentError(fmt::format(
      "the passphrase is too short: it protects the key of every host and user; give at least {} "
      "characters",
      kShortestPassphrase));
}

absl::StatusOr<std::string> KnownPassphrase(const std::string& file) {
  return file.empty() ? Ask("Passphrase of the backup") : FromFile(file);
}

}  // namespace sealift::controller
