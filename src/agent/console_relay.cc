#include "agent/console_relay.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <thread>

namespace sealift::agent {
namespace {

bool SendAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

}  // namespace

void RelayConsole(base::UniqueFd console, const std::string& first_input,
                  grpc::ServerContext& context,
                  grpc::ServerReaderWriter<v1::AgentConsoleOutput, v1::AgentConsoleInput>& stream) {
  // Output in this thread's helper, input here: the call's end ends the input, which then wakes the
  // output.
  std::thread output([&] {
    std::array<char, 4096> buffer{};
    for (;;) {
      const ssize_t got = recv(console.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      v1::AgentConsoleOutput message;
      message.set_data(buffer.data(), static_cast<std::size_t>(got));
      if (!stream.Write(message)) break;
    }
    context.TryCancel();
  });
  v1::AgentConsoleInput input;
  bool open = SendAll(console.get(), first_input);
  while (open && stream.Read(&input)) open = SendAll(console.get(), input.data());
  // The client has said all it will; what the console still says reaches it until it leaves.
  if (open && !context.IsCancelled()) shutdown(console.get(), SHUT_WR);
  if (context.IsCancelled() || !open) shutdown(console.get(), SHUT_RDWR);
  output.join();
}

}  // namespace sealift::agent
