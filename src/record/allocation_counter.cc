// In a file of its own: where the compiler sees one half of a pair of replaced operators inlined
// beside the library's other half, it warns of a mismatch.
#include "record/allocation_counter.h"

#include <atomic>
#include <cstdlib>
#include <new>

#include "base/sanitizers.h"

namespace {

std::atomic<std::size_t> allocations = 0;

}  // namespace

// ThreadSanitizer's runtime has operators of its own.
#if !defined(SEALIFT_THREAD_SANITIZER)
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

std::size_t sealift::record::Allocations() { return allocations; }
