// Calls in flight that may have to end before their answer: all calls to a host that is removed, or
// all when the daemon stops.
#pragma once

#include <grpcpp/client_context.h>

#include <mutex>
#include <set>

namespace sealift::controller {

// CallGroup is thread-safe and outlives the calls in it.
class CallGroup {
 public:
  // Membership keeps a call in the group for its own lifetime, which lies within that of the
  // context.
  class Membership {
   public:
    Membership(CallGroup& group, grpc::ClientContext& context);
    ~Membership();
    Membership(const Membership&) = delete;
    Membership& operator=(const Membership&) = delete;

   private:
    CallGroup& group_;
    grpc::ClientContext& context_;
  };

  // CancelAll ends every call in the group, and every later one, with CANCELLED.
  void CancelAll();

 private:
  std::mutex mutex_;
  std::set<grpc::ClientContext*> calls_;  // guarded by mutex_
  bool cancelled_ = false;                // guarded by mutex_
};

}  // namespace sealift::controller
