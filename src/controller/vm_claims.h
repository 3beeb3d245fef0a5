// One operation at a time on each VM.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"

namespace sealift::controller {

// VmClaims is thread-safe and outlives the claims taken.
class VmClaims {
 public:
  // Claim is held while a VM is operated on.
  class Claim {
   public:
    Claim(VmClaims& claims, std::string vm) : claims_(claims), vm_(std::move(vm)) {}
    ~Claim() { claims_.Release(vm_); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

   private:
    VmClaims& claims_;
    const std::string vm_;
  };

  // Take is FAILED_PRECONDITION while another operation holds the VM. `doing` says what is done to
  // it: "being stopped".
  [[nodiscard]] absl::StatusOr<std::unique_ptr<Claim>> Take(const std::string& vm,
                                                            const std::string& doing);

 private:
  void Release(const std::string& vm);

  std::mutex mutex_;
  std::map<std::string, std::string> doing_;  // by VM; guarded by mutex_
};

}  // namespace sealift::controller
