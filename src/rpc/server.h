// A running gRPC server of ours.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/socket.h"

namespace sealift::rpc {

// Callers of a server: those whose certificate lets them in, or anybody. Anybody may make one small
// call at a time on a connection, which does not last.
enum class Callers { kKnown, kAnybody };

struct ServerOptions {
  base::HostPort address;  // port 0: any free one
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::vector<grpc::Service*> services;  // not owned; must outlive the server
  Callers callers = Callers::kKnown;
  int max_threads = 256;              // a call beyond it gets RESOURCE_EXHAUSTED
  std::size_t max_connections = 256;  // beyond it strangers are disconnected: connection_gate.h
};

class ConnectionGate;

// Server serves from its start until it is shut down or destroyed. Thread-safe.
class Server {
 public:
  // Start listens and then makes sure that TLS 1.2 is refused (VerifyTls13Only). Errors name the
  // address. From then on gRPC's own messages go to our log, at level debug, and the process may
  // have as many descriptors as its hard limit allows.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  // Shuts down at once.
  ~Server();

  // Shutdown refuses new calls, gives running ones `grace` to end, then cancels them and waits for
  // their methods to return.
  void Shutdown(std::chrono::milliseconds grace);

  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  Server(std::unique_ptr<ConnectionGate> gate, std::unique_ptr<grpc::Server> server,
         std::uint16_t port);

  const std::unique_ptr<ConnectionGate> gate_;
  const std::unique_ptr<grpc::Server> server_;
  const std::uint16_t port_;
};

}  // namespace sealift::rpc
