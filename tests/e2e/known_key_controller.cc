// sealift-controllerd for tests of where a migration key is found: every key of a migration is the
// content of the file that SEALIFT_KNOWN_KEY names. All other random numbers are random.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "base/check.h"
#include "base/unique_fd.h"
#include "controller/daemon.h"
#include "keys/key_schedule.h"
#include "keys/random.h"

namespace sealift {
namespace {

class KnownKey final : public keys::RandomSource {
 public:
  absl::Status Fill(base::MutableByteSpan bytes) override {
    constexpr std::size_t kSize = keys::kMigrationKeySize + keys::kMigrationNonceSize;
    if (bytes.size() != kSize) return system_.Fill(bytes);
    // Straight to where the key lives: no copy of it is this program's fault.
    const base::UniqueFd file(open(std::getenv("SEALIFT_KNOWN_KEY"), O_RDONLY | O_CLOEXEC));
    SEALIFT_CHECK(read(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(kSize));
    return absl::OkStatus();
  }

 private:
  keys::SystemRandom system_;
};

}  // namespace
}  // namespace sealift

int main(int argc, char** argv) {
  sealift::KnownKey random;
  return sealift::controller::RunDaemon(argc, argv, random);
}
