// Accepts the connections of a gRPC server, and bounds how many there are. Private to this folder.
//
// gRPC 1.51 takes every connection, and stops listening for good at the first one for which it has
// no descriptor left. So we accept, and hand over what there is room for.
//
// A connection is a stranger until a call on it was admitted. When all places are taken the oldest
// stranger has to go, of the address that has most of them: who floods us pushes out his own.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace sealift::rpc {

// ConnectionGate is thread-safe.
class ConnectionGate {
 public:
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

  // At most `places` connections are open at a time, and as many that gRPC is about to close. Each
  // takes two descriptors.
  ConnectionGate(std::vector<base::UniqueFd> listeners, std::size_t places);
  ConnectionGate(const ConnectionGate&) = delete;
  ConnectionGate& operator=(const ConnectionGate&) = delete;
  // Closes it, if it is open.
  ~ConnectionGate() { Close(); }

  // Open begins to accept, in a thread of its own. Close ends that; connections stay.
  void Open(std::unique_ptr<Acceptor> acceptor);
  void Close();

  // MakeKnown notes that a call of this peer, named as gRPC names it, was admitted.
  void MakeKnown(const std::string& peer);

 private:
  // Connection is one that gRPC has. We hold a second descriptor of it: to see its end, and to end
  // it.
  struct Connection {
    base::UniqueFd watch;
    int handed_over = -1;  // gRPC's
    ino_t inode = 0;
    std::string peer;     // as gRPC names it
    std::string address;  // who counts as one
    enum class Is { kStranger, kKnown } is = Is::kStranger;
  };

  void Run();
  [[nodiscard]] bool Watch(int operation, int fd, std::uint64_t number, std::uint32_t events) const;
  // The rest needs mutex_. Accept takes who waits; false: there is no room for more now.
  [[nodiscard]] bool Accept(std::vector<int>& accepted);
  [[nodiscard]] bool HasRoom();
  [[nodiscard]] bool Admit(int fd);
  void PushOut();
  void SetLeaving(std::uint64_t number);

  const std::size_t places_;
  const base::UniqueFd epoll_;
  const base::UniqueFd wake_;  // by Close
  std::vector<base::UniqueFd> listeners_;
  std::unique_ptr<Acceptor> acceptor_;
  std::thread thread_;

  std::mutex mutex_;
  // Guarded by mutex_:
  std::uint64_t next_;
  std::map<std::uint64_t, Connection> connections_;  // in the order of their coming
  std::vector<Connection> leaving_;                  // over, but not closed by gRPC yet
  std::chrono::steady_clock::time_point warned_{};
};

}  // namespace sealift::rpc
