// Counts the allocations of a test program.
#pragma once

#include <cstddef>

namespace sealift::record {

// Allocations says how often operator new was called in this process; always 0 with
// ThreadSanitizer. Thread-safe.
[[nodiscard]] std::size_t Allocations();

}  // namespace sealift::record
