#include "controller/call_group.h"

namespace sealift::controller {

CallGroup::Membership::Membership(CallGroup& group, grpc::ClientContext& context)
    : group_(group), context_(context) {
  const std::lock_guard lock(group_.mutex_);
  group_.calls_.insert(&context_);
  if (group_.cancelled_) context_.TryCancel();
}

CallGroup::Membership::~Membership() {
  const std::lock_guard lock(group_.mutex_);
  group_.calls_.erase(&context_);
}

void CallGroup::CancelAll() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* call : calls_) call->TryCancel();
}

}  // namespace sealift::controller
