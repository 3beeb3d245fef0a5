// Guest RAM as a mover sees it: memory files, mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/unique_fd.h"
#include "mover/page_message.h"

namespace sealift::mover {

// MemoryAccess of a mapping: the source reads, the destination writes.
enum class MemoryAccess { kRead, kWrite };

// GuestMemory owns the mapping of one block. Its pages change while the guest runs.
class GuestMemory {
 public:
  // Map maps `size` bytes of a memory file. INVALID_ARGUMENT when the size is no multiple of
  // kPageSize or not that of the file.
  [[nodiscard]] static absl::StatusOr<GuestMemory> Map(base::UniqueFd file, std::uint64_t size,
                                                       MemoryAccess access);
  GuestMemory(GuestMemory&& other) noexcept;
  GuestMemory& operator=(GuestMemory&& other) noexcept;
  ~GuestMemory();

  [[nodiscard]] std::uint64_t pages() const { return size_ / kPageSize; }

  // Bytes gives the bytes of pages, or nothing when the block has not all of them. The block of
  // `range` is not looked at.
  [[nodiscard]] std::optional<base::ByteSpan> Bytes(const PageRange& range) const;
  // MutableBytes is Bytes for MemoryAccess::kWrite.
  [[nodiscard]] std::optional<base::MutableByteSpan> MutableBytes(const PageRange& range) const;

  // NextPopulated finds the first run of pages at or after `first` that the file has memory for;
  // all others hold zeros. Its end is at most `end`; first == end when there is none.
  struct Run {
    std::uint64_t first;
    std::uint64_t end;
  };
  [[nodiscard]] absl::StatusOr<Run> NextPopulated(std::uint64_t first, std::uint64_t end) const;
  // Memory the file has, in bytes.
  [[nodiscard]] absl::StatusOr<std::uint64_t> PopulatedBytes() const;

 private:
  GuestMemory(base::UniqueFd file, std::byte* memory, std::uint64_t size);
  [[nodiscard]] bool Has(const PageRange& range) const;

  base::UniqueFd file_;
  std::byte* memory_ = nullptr;
  std::uint64_t size_ = 0;
};

}  // namespace sealift::mover
