#include "mover/guest_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"

namespace sealift::mover {
absl::StatusOr<GuestMemory> GuestMemory::Map(base::UniqueFd file, std::uint64_t size,
                                             MemoryAccess access) {
  const off_t end = lseek(file.get(), 0, SEEK_END);
  if (end < 0) return base::ErrnoStatus("look at guest memory", errno);
  if (size == 0 || size % kPageSize != 0 || static_cast<std::uint64_t>(end) != size) {
    return absl::InvalidArgumentError(
        fmt::format("guest memory of {} bytes in a file of {}", size, end));
  }
  const int protection = access == MemoryAccess::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  void* memory = mmap(nullptr, size, protection, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return base::ErrnoStatus("map guest memory", errno);
  // Wishes: without them it is only slower, and a core file larger.
  madvise(memory, size, MADV_HUGEPAGE);
  madvise(memory, size, MADV_DONTDUMP);
  return GuestMemory(std::move(file), static_cast<std::byte*>(memory), size);
}

GuestMemory::GuestMemory(base::UniqueFd file, std::byte* memory, std::uint64_t size)
    : file_(std::move(file)), memory_(memory), size_(size) {}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : file_(std::move(other.file_)),
      memory_(std::exchange(other.memory_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

GuestMemory& GuestMemory::operator=(GuestMemory&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(memory_, other.memory_);
  std::swap(size_, other.size_);
  return *this;
}

GuestMemory::~GuestMemory() {
  if (memory_ != nullptr) munmap(memory_, size_);
}

bool GuestMemory::Has(const PageRange& range) const {
  return range.first <= pages() && range.count <= pages() - range.first;
}

std::optional<base::ByteSpan> GuestMemory::Bytes(const PageRange& range) const {
  return MutableBytes(range);
}

std::optional<base::MutableByteSpan> GuestMemory::MutableBytes(const PageRange& range) const {
  if (!Has(range)) return std::nullopt;
  return base::MutableByteSpan(memory_ + range.first * kPageSize, range.count * kPageSize);
}

absl::StatusOr<GuestMemory::Run> GuestMemory::NextPopulated(std::uint64_t first,
                                                            std::uint64_t end) const {
  const off_t data = lseek(file_.get(), static_cast<off_t>(first * kPageSize), SEEK_DATA);
  if (data < 0 && errno == ENXIO) return Run{end, end};
  if (data < 0) return base::ErrnoStatus("find populated guest memory", errno);
  const std::uint64_t begin = static_cast<std::uint64_t>(data) / kPageSize;
  if (begin >= end) return Run{end, end};
  const off_t hole = lseek(file_.get(), data, SEEK_HOLE);
  if (hole < 0) return base::ErrnoStatus("find populated guest memory", errno);
  const std::uint64_t stop = (static_cast<std::uint64_t>(hole) + kPageSize - 1) / kPageSize;
  return Run{std::max(begin, first), std::min(stop, end)};
}

absl::StatusOr<std::uint64_t> GuestMemory::PopulatedBytes() const {
  std::uint64_t populated = 0;
  for (std::uint64_t at = 0; at < pages();) {
    SEALIFT_ASSIGN_OR_RETURN(const Run run, NextPopulated(at, pages()));
    populated += run.end - run.first;
    at = run.end;
  }
  return populated * kPageSize;
}

}  // namespace sealift::mover
