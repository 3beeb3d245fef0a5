#include "controller/host_rows.h"

#include "base/status.h"

namespace sealift::controller {

absl::Status HostRows::Update(const std::string& host,
                              const std::function<void(store::HostRow&)>& change) {
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(store::HostRow row, store_.GetHost(host));
  change(row);
  return store_.UpdateHost(row);
}

}  // namespace sealift::controller
