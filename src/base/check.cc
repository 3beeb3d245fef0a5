#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace sealift::base {

void CheckFailed(const char* condition, const char* file, int line) {
  static_cast<void>(
      std::fprintf(stderr, "sealift: check failed: %s at %s:%d\n", condition, file, line));
  std::abort();
}

}  // namespace sealift::base
