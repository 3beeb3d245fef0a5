#include "agent/console_relay.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <thread>

namespace sealift::agent {
namespace {

// How soon a console is free again after its client has gone without a word.
constexpr int kLookForClientMs = 200;

bool SendAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

// Passes on what the console says within a moment; false at its end, or when the client is gone.
bool PassOutput(int console,
                grpc::ServerReaderWriter<v1::AgentConsoleOutput, v1::AgentConsoleInput>& stream) {
  pollfd waiting{console, POLLIN, 0};
  if (poll(&waiting, 1, kLookForClientMs) <= 0) return true;
  std::array<char, 4096> buffer{};
  const ssize_t got = recv(console, buffer.data(), buffer.size(), 0);
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0) return false;
  v1::AgentConsoleOutput message;
  message.set_data(buffer.data(), static_cast<std::size_t>(got));
  return stream.Write(message);
}

}  // namespace

void RelayConsole(base::UniqueFd console, const std::string& first_input,
                  grpc::ServerContext& context,
                  grpc::ServerReaderWriter<v1::AgentConsoleOutput, v1::AgentConsoleInput>& stream) {
  // Output in a thread of its own, input here. The end of the console ends the call, which ends the
  // input.
  std::thread output([&] {
    while (!context.IsCancelled() && PassOutput(console.get(), stream)) {
    }
    context.TryCancel();
  });
  v1::AgentConsoleInput input;
  bool open = SendAll(console.get(), first_input);
  while (open && stream.Read(&input)) open = SendAll(console.get(), input.data());
  // The client has said all it will, but listens until it leaves. QEMU would take the end of its
  // input for the end of everything.
  output.join();
}

}  // namespace sealift::agent
