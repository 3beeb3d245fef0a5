// A file that an administrator takes for a backup of a controller: it is read, or refused for one
// of the reasons that are documented.
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>

#include "base/check.h"
#include "base/testing.h"
#include "store/backup.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift;
  const base::TestFolder folder;  // SQLite may put more files beside it
  const std::string path = folder / "backup";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const absl::Status status = store::ReadBackup(path).status();
  SEALIFT_CHECK(status.ok() || absl::IsInvalidArgument(status) || absl::IsInternal(status) ||
                absl::IsFailedPrecondition(status));
  return 0;
}
