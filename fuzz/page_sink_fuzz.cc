// A source that has the key and says what it likes on a page stream. The destination's memory may
// change inside the agreed blocks only: the pages around them are guarded, so that a write there
// ends the process.
//
// The input: records, each a byte (0 data, 1 control, 2 final), a byte n, and for control records n
// bytes, for data records n pages. These are put where the sink wants them, as a stream does it.
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

GuestMemory Map(std::size_t size) {
  base::UniqueFd file(memfd_create("fuzz", MFD_CLOEXEC));
  SEALIFT_CHECK(ftruncate(file.get(), static_cast<off_t>(size)) == 0);
  return GuestMemory::Map(std::move(file), size, MemoryAccess::kWrite).value();
}

// A block in a gap between two pages that nobody may touch. The kernel says where it maps: into
// this gap as soon as those that it prefers are filled.
GuestMemory MapGuarded(std::size_t size) {
  void* const reserved =
      mmap(nullptr, size + 2 * kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  SEALIFT_CHECK(reserved != MAP_FAILED);
  std::byte* const gap = static_cast<std::byte*>(reserved) + kPageSize;
  SEALIFT_CHECK(munmap(gap, size) == 0);
  std::vector<GuestMemory> fillers;
  for (;;) {
    GuestMemory memory = Map(size);
    if (memory.Bytes({0, 0, 1})->data() == gap) return memory;
    fillers.push_back(std::move(memory));
    SEALIFT_CHECK(fillers.size() < 1000);
  }
}

const std::vector<GuestMemory>& Memory() {
  static const std::vector<GuestMemory> memory = [] {
    std::vector<GuestMemory> made;
    for (const std::uint64_t pages : kPages) made.push_back(MapGuarded(pages * kPageSize));
    return made;
  }();
  return memory;
}

record::RecordType TypeOf(std::uint8_t byte) {
  constexpr record::RecordType kTypes[] = {record::RecordType::kData, record::RecordType::kControl,
                                           record::RecordType::kFinal};
  return kTypes[byte % std::size(kTypes)];
}

// A payload that fits is opened where the sink wants it, any other elsewhere.
base::ByteSpan Open(PageSink& sink, std::size_t size, base::Bytes& elsewhere) {
  base::MutableByteSpan into = sink.Destination();
  if (size > into.size()) {
    elsewhere.resize(size);
    into = elsewhere;
  }
  std::ranges::fill(into.first(size), std::byte{0xa5});
  return into.first(size);
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
    base::Bytes elsewhere;
    base::ByteSpan payload;
    if (type == record::RecordType::kData) payload = Open(sink, n * kPageSize, elsewhere);
    if (type == record::RecordType::kControl) {
      const base::ByteSpan bytes = input.first(std::min(n, input.size()));
      elsewhere.assign(bytes.begin(), bytes.end());
      payload = elsewhere;
      input = input.subspan(bytes.size());
      CheckMessage(payload);
    }
    if (!sink.Receive({type, payload}).ok()) break;
  }
  return 0;
}
