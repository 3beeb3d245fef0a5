// SEALIFT_ADDRESS_SANITIZER is defined in a build with AddressSanitizer. g++ and clang say so in
// ways of their own.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define SEALIFT_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SEALIFT_ADDRESS_SANITIZER
#endif
#endif
