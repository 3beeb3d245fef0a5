// A source that has the key and says what it likes on a page stream. The destination's memory may
// change inside the agreed blocks only: the pages around them are guarded, so that a write there
// ends the process.
//
// The input: records, each a byte (0 data, 1 control, 2 final), a byte n, and for control records n
// bytes, for data records n pages.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/check.h"
#include "mover/guest_memory.h"
#include "mover/page_message.h"
#include "mover/page_sink.h"

namespace {

using namespace sealift;
using namespace sealift::mover;

constexpr std::uint64_t kPages[] = {16, 3};

const std::vector<GuestMemory>& Memory() {
  static const std::vector<GuestMemory> memory = [] {
    std::vector<GuestMemory> made;
    for (const std::uint64_t pages : kPages) {
      base::UniqueFd file(memfd_create("fuzz", MFD_CLOEXEC));
      SEALIFT_CHECK(ftruncate(file.get(), static_cast<off_t>(pages * kPageSize)) == 0);
      made.push_back(
          GuestMemory::Map(std::move(file), pages * kPageSize, MemoryAccess::kWrite).value());
    }
    return made;
  }();
  return memory;
}

record::RecordType TypeOf(std::uint8_t byte) {
  constexpr record::RecordType kTypes[] = {record::RecordType::kData, record::RecordType::kControl,
                                           record::RecordType::kFinal};
  return kTypes[byte % std::size(kTypes)];
}

// What is accepted must survive being written and read again.
void CheckMessage(base::ByteSpan bytes) {
  const auto message = DecodePageMessage(bytes);
  if (message.ok()) SEALIFT_CHECK(std::ranges::equal(EncodePageMessage(*message), bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  base::ByteSpan input(reinterpret_cast<const std::byte*>(data), size);
  PageSink sink(Memory());
  while (input.size() >= 2) {
    const record::RecordType type = TypeOf(std::to_integer<std::uint8_t>(input[0]));
    const auto n = std::to_integer<std::size_t>(input[1]);
    input = input.subspan(2);
    base::Bytes payload;
    if (type == record::RecordType::kData) payload.resize(n * kPageSize, std::byte{0xa5});
    if (type == record::RecordType::kControl) {
      const base::ByteSpan bytes = input.first(std::min(n, input.size()));
      payload.assign(bytes.begin(), bytes.end());
      input = input.subspan(bytes.size());
      CheckMessage(payload);
    }
    if (!sink.Receive({type, payload}).ok()) break;
  }
  return 0;
}
