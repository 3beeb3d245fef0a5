#include "controller/passphrase.h"

#include <fcntl.h>
#include <fmt/format.h>
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

// While it lives, nothing typed is shown, and Ctrl-C ends a read instead of the process.
class Silence {
 public:
  explicit Silence(int terminal) : terminal_(terminal) {
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
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  const int terminal_;
  termios before_{};
  struct sigaction action_before_ {};
};

absl::StatusOr<std::string> ReadLine(int terminal) {
  std::string line;
  for (;;) {
    char next = 0;
    const ssize_t got = read(terminal, &next, 1);
    if (got < 0 && errno == EINTR) return absl::CancelledError("interrupted");
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
  absl::StatusOr<std::string> line = ReadLine(terminal.get());
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
