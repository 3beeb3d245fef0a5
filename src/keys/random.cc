#include "keys/random.h"

#include <sys/random.h>

#include <cerrno>

#include "base/status.h"

namespace sealift::keys {

absl::Status SystemRandom::Fill(base::MutableByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::getrandom(bytes.data(), bytes.size(), 0);
    if (got < 0 && errno != EINTR) return base::ErrnoStatus("read random bytes", errno);
    if (got > 0) bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return absl::OkStatus();
}

}  // namespace sealift::keys
